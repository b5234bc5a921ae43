<?php
// PDO: prepared on the server and emulated, a transaction, a statement that fails; prints what it got.
$read = 'SELECT id, name FROM salaries WHERE id <= ? ORDER BY id';
foreach ([false, true] as $emulated) {
    $connection = new PDO('pgsql:', null, null, [
        PDO::ATTR_EMULATE_PREPARES => $emulated,
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    ]);
    $statement = $connection->prepare($read);
    foreach ([3, 2] as $last) {
        $statement->execute([$last]);
        echo json_encode($statement->fetchAll(PDO::FETCH_NUM)), "\n";
    }
    $statement = null;
    echo json_encode($connection->query('SELECT count(*) FROM salary_names')->fetchAll(PDO::FETCH_NUM)), "\n";
    $connection->beginTransaction();
    echo json_encode($connection->query('SELECT count(*) FROM salaries')->fetchAll(PDO::FETCH_NUM)), "\n";
    $connection->rollBack();
    foreach ($connection->pgsqlCopyToArray('(SELECT id FROM salaries WHERE id < 3 ORDER BY id)') as $line) {
        echo $line;
    }
    try {
        $connection->query('SELECT 1 / (id - 2) FROM salaries WHERE id <= 3 ORDER BY id')->fetchAll();
    } catch (PDOException $error) {
        echo $error->getMessage(), "\n";
    }
    echo json_encode($connection->query('SELECT count(*) FROM items')->fetchAll(PDO::FETCH_NUM)), "\n";
}
