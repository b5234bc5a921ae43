/*
 * postgres11.c
 *		The stand-in for PostgreSQL 11, the version that Hologres is built on: the settings, functions
 *		and foreign tables of hologres.c, counters.c and odps_fdw.c, under the same names and with the
 *		same texts.
 *
 * The binaries of PostgreSQL 11 that there are carry no headers. So this file declares the little of
 * it that it uses, and leaves to SQL, through SPI, what would need more: which columns a table has,
 * its rows, what IMPORT FOREIGN SCHEMA creates. The layouts are those of PostgreSQL 11 on a 64-bit
 * machine. They hold for no other version: the magic block makes any other refuse the library.
 *
 * What it does not have: the rows of a foreign table are read when its scan begins and are held in
 * memory.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

_Static_assert(sizeof(void *) == 8 && sizeof(long) == 8, "the layouts below are those of LP64");

/* What of PostgreSQL 11 is used here. */

typedef uintptr_t Datum;
typedef unsigned int Oid;

typedef struct FunctionCall
{
	void	   *flinfo, *context, *resultinfo;
	Oid			collation;
	bool		isnull;
	short		nargs;
	Datum		arg[100];
	bool		argnull[100];
} FunctionCall;

typedef Datum (*Function) (FunctionCall *);

typedef struct Magic
{
	int			len, version, funcmaxargs, indexmaxkeys, namedatalen, float4byval, float8byval;
} Magic;

const Magic *
Pg_magic_func(void)
{
	static const Magic magic = {sizeof(Magic), 1100, 100, 32, 64, true, true};

	return &magic;
}

#define SQL_FUNCTION(name) \
	const int *pg_finfo_##name(void) { static const int version = 1; return &version; } \
	Datum name(FunctionCall *call)

typedef struct Node
{
	int			tag;
} Node;

typedef struct ListCell
{
	void	   *value;
	struct ListCell *next;
} ListCell;

typedef struct List
{
	int			tag, length;
	ListCell   *head, *tail;
} List;

typedef struct DefElem
{
	int			tag;
	char	   *namespace, *name;
	Node	   *arg;
} DefElem;

typedef struct RawStmt
{
	int			tag;
	Node	   *stmt;
} RawStmt;

typedef struct VariableSetStmt
{
	int			tag, kind;
	char	   *name;
	List	   *args;
	bool		is_local;
} VariableSetStmt;

typedef struct PlannedStmt
{
	int			tag, command;
	uint64_t	query_id;
	bool		flags[6];
	int			jit_flags;
	void	   *between[11];
	Node	   *utility;
} PlannedStmt;

typedef struct ImportForeignSchemaStmt
{
	int			tag;
	char	   *server, *remote_schema, *local_schema;
	int			list_type;
	List	   *tables, *options;
} ImportForeignSchemaStmt;

typedef struct RelOptInfo
{
	int			tag, kind;
	void	   *relids;
	double		rows;
	bool		consider_startup, consider_param_startup, consider_parallel;
	void	   *between[9];
	void	   *lateral_relids;
	unsigned int relid;
} RelOptInfo;

typedef struct Relation
{
	void	   *before[8];
	Oid			id;
} Relation;

typedef struct ForeignScanState
{
	void	   *plan_state[18];
	Relation   *relation;
	void	   *heap_scan;
	void	   *slot;
	void	   *recheck;
	size_t		parallel_length;
	void	   *routine;
	struct OdpsScan *scan;
} ForeignScanState;

typedef struct ForeignScan
{
	void	   *plan[13];
	unsigned long relid;		/* padded */
	int			operation;
	Oid			server;
	List	   *expressions, *private;
} ForeignScan;

typedef struct ForeignTable
{
	Oid			relid, serverid;
	List	   *options;
} ForeignTable;

typedef struct SpiTable
{
	void	   *context;
	uint64_t	alloced, free;
	void	   *descriptor;
	void	  **rows;
} SpiTable;

typedef struct FdwRoutine
{
	Node		node;
	void		(*get_rel_size) (void *root, RelOptInfo *rel, Oid table);
	void		(*get_paths) (void *root, RelOptInfo *rel, Oid table);
	void	   *(*get_plan) (void *root, RelOptInfo *rel, Oid table, void *path, List *targets,
							 List *clauses, void *outer);
	void		(*begin) (ForeignScanState *node, int flags);
	void	   *(*iterate) (ForeignScanState *node);
	void		(*rescan) (ForeignScanState *node);
	void		(*end) (ForeignScanState *node);
	void	   *writes[19];
	void		(*explain) (ForeignScanState *node, void *state);
	void	   *others[3];
	List	   *(*import) (ImportForeignSchemaStmt *statement, Oid server);
	void	   *parallel[7];
} FdwRoutine;
_Static_assert(offsetof(ForeignScan, private) == 128, "where PostgreSQL 11 has it");
_Static_assert(sizeof(FdwRoutine) == 312, "the size that PostgreSQL 11 gives it");

enum
{
	ERROR = 20, INT4OID = 23, TEXTOID = 25,
	VAR_SET_DEFAULT = 1, VAR_RESET = 4,
	PGC_SUSET = 5, PGC_USERSET = 6,
	PGC_S_GLOBAL = 5, PGC_S_CLIENT = 9, PGC_S_SESSION = 13,
	GUC_NO_SHOW_ALL = 0x4, GUC_SUPERUSER_ONLY = 0x100, GUC_UNIT_MS = 0x20000,
	EXEC_FLAG_EXPLAIN_ONLY = 1, SECURITY_LOCAL_USERID_CHANGE = 1, BOOTSTRAP_SUPERUSERID = 10
};

#define SQLSTATE(a, b, c, d, e) \
	(((a) - '0') | ((b) - '0') << 6 | ((c) - '0') << 12 | ((d) - '0') << 18 | ((e) - '0') << 24)

extern bool errstart(int level, const char *file, int line, const char *function, const char *domain);
extern void errfinish(int dummy, ...);
extern int	errcode(int sqlstate);
extern int	errmsg(const char *format, ...);
extern int	errmsg_internal(const char *format, ...);
extern int	errdetail_internal(const char *format, ...);
extern int	errhint(const char *format, ...);
extern void pre_format_elog_string(int number, const char *domain);
extern char *format_elog_string(const char *format, ...);
extern void GUC_check_errcode(int sqlstate);
extern char *GUC_check_errmsg_string, *GUC_check_errdetail_string;

extern void *palloc0(size_t size);
extern char *pstrdup(const char *text);
extern char *psprintf(const char *format, ...);
extern void pfree(void *pointer);
extern void *cstring_to_text(const char *text);
extern List *lappend(List *list, void *value);
extern List *lappend_int(List *list, int value);
extern char *defGetString(DefElem *option);
extern bool SplitIdentifierString(char *text, char separator, List **names);
extern List *untransformRelOptions(Datum options);
extern List *raw_parser(const char *statement);
extern void *copyObjectImpl(const void *node);

extern volatile bool InterruptPending;
extern void ProcessInterrupts(void);
extern bool process_shared_preload_libraries_in_progress, IsUnderPostmaster;
extern Oid	MyDatabaseId;
extern void GetUserIdAndSecContext(Oid *user, int *context);
extern void SetUserIdAndSecContext(Oid user, int context);
extern Function load_external_function(const char *file, const char *name, bool must, void **handle);

extern void DefineCustomBoolVariable(const char *name, const char *short_text, const char *long_text,
									 bool *value, bool boot, int context, int flags, void *check,
									 void *assign, void *show);
extern void DefineCustomIntVariable(const char *name, const char *short_text, const char *long_text,
									int *value, int boot, int min, int max, int context, int flags,
									void *check, void *assign, void *show);
extern void DefineCustomStringVariable(const char *name, const char *short_text, const char *long_text,
									   char **value, const char *boot, int context, int flags,
									   void *check, void *assign, void *show);
extern void EmitWarningsOnPlaceholders(const char *prefix);
extern void SetConfigOption(const char *name, const char *value, int context, int source);

extern void RequestAddinShmemSpace(size_t size);
extern void *ShmemInitStruct(const char *name, size_t size, bool *found);
extern void (*shmem_startup_hook) (void);

typedef void (*ProcessUtility) (PlannedStmt *statement, const char *query, int context, void *parameters,
								void *environment, void *destination, char *tag);
extern ProcessUtility ProcessUtility_hook;
extern void standard_ProcessUtility(PlannedStmt *statement, const char *query, int context,
									void *parameters, void *environment, void *destination, char *tag);

extern int	SPI_connect(void), SPI_finish(void);
extern int	SPI_execute_with_args(const char *command, int count, Oid *types, Datum *values,
								  const char *nulls, bool read_only, long limit);
extern uint64_t SPI_processed;
extern SpiTable *SPI_tuptable;
extern void *SPI_copytuple(void *row);
extern char *SPI_getvalue(void *row, void *descriptor, int column);
extern void *SPI_palloc(size_t size);

extern ForeignTable *GetForeignTable(Oid table);
extern void add_path(RelOptInfo *rel, void *path);
extern void *create_foreignscan_path(void *root, RelOptInfo *rel, void *target, double rows,
									 double startup, double total, List *order, void *outer,
									 void *outer_path, List *private);
extern void *make_foreignscan(List *targets, List *clauses, unsigned int relid, List *expressions,
							  List *private, List *scan_targets, List *recheck, void *outer);
extern List *extract_actual_clauses(List *clauses, bool pseudoconstant);
extern void *ExecStoreTuple(void *row, void *slot, int buffer, bool free);
extern void *ExecClearTuple(void *slot);
extern void ExplainPropertyText(const char *label, const char *value, void *state);

/* Raises an error; the arguments are calls of errmsg() and its like. */
#define FAIL(...) \
	do { \
		if (errstart(ERROR, __FILE__, __LINE__, __func__, NULL)) \
			errfinish(0, __VA_ARGS__); \
		__builtin_unreachable(); \
	} while (0)

/* Settings. */

#define ORC_SETTING "hg_experimental_enable_access_odps_orc_via_holo"
#define ORC_SETTING_NEW_NAME "hg_enable_access_odps_orc_via_holo"
#define ROUTING_SETTING "hg_experimental_external_catalog_routing"

#define DEFAULT_VERSION \
	"Hologres 2.2.10 (tag: release-2.2.x build: Release,Skylake,clang), compatible with " \
	"PostgreSQL 11.3 (stand-in for tests, not Hologres)"

typedef enum Engine
{
	ENGINE_HQE, ENGINE_SQE, ENGINE_COMMON_TABLE, ENGINE_COUNT
} Engine;

static const char *const engine_names[] = {"HQE", "SQE", "COMMON_TABLE"};

static bool orc_via_holo = true;
static bool refuse_set = false;
static bool plan_chooses_engine = false;
static char *routing = NULL;
static char *computing_resource = NULL;
static bool generate_binlog = true;
static int	query_priority = 3;
static bool fixed_dispatcher_for_scan = false;
static char *version = NULL;
static char *encrypted_projects = NULL;
static char *streamed_project = NULL;
static int	fail_after_rows = 0;
static int	scan_delay_ms = 0;
static int	set_delay_ms = 0;

/* Per database, in shared memory, beyond the reach of rollbacks. */
#define SLOTS 1024

typedef struct Slot
{
	Oid			database;
	uint64_t	scans[ENGINE_COUNT];
	uint64_t	failures[ENGINE_COUNT];
	uint64_t	setting_changes;
} Slot;

static Slot *slots = NULL;
static void (*previous_shmem_startup) (void) = NULL;
static ProcessUtility previous_process_utility = NULL;

static void
check_for_interrupts(void)
{
	if (InterruptPending)
		ProcessInterrupts();
}

static void
sleep_for(int milliseconds)
{
	for (int i = 0; i < milliseconds; i++)
	{
		check_for_interrupts();
		usleep(1000);
	}
}

static void
shmem_startup(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	slots = ShmemInitStruct("hologres counters", SLOTS * sizeof(Slot), &found);
	if (!found)
		memset(slots, 0, SLOTS * sizeof(Slot));
}

/* The slot of the session's database. Slots are claimed in order, so the first free one ends the search. */
static Slot *
my_slot(void)
{
	for (int i = 0; i < SLOTS; i++)
	{
		Oid			owner = 0;

		if (__atomic_compare_exchange_n(&slots[i].database, &owner, MyDatabaseId, false,
										__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ||
			owner == MyDatabaseId)
			return &slots[i];
	}
	FAIL(errcode(SQLSTATE('5', '4', '0', '0', '0')),
		 errmsg("the stand-in for Hologres counts at most %d databases", SLOTS));
}

static void
add(uint64_t *count)
{
	__atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
}

static Engine
chosen_engine(void)
{
	char	   *rest = pstrdup(routing);
	char	   *entry;

	while ((entry = strsep(&rest, ",")) != NULL)
		if (strcasecmp(entry + strspn(entry, " "), "odps:common_table") == 0)
			return ENGINE_COMMON_TABLE;
	return orc_via_holo ? ENGINE_HQE : ENGINE_SQE;
}

/* How a project is encrypted by the list: "kms", "default" or NULL; false: the list is malformed. */
static bool
look_up_project(const char *projects, const char *wanted, const char **encryption)
{
	char	   *list = pstrdup(projects);
	List	   *entries;

	*encryption = NULL;
	if (!SplitIdentifierString(list, ',', &entries))
		return false;
	for (ListCell *cell = entries ? entries->head : NULL; cell; cell = cell->next)
	{
		char	   *entry = cell->value;
		char	   *colon = strrchr(entry, ':');

		if (colon == NULL || colon == entry ||
			(strcmp(colon + 1, "kms") != 0 && strcmp(colon + 1, "default") != 0))
			return false;
		*colon = '\0';
		if (strcasecmp(entry, wanted) == 0)
			*encryption = strcmp(colon + 1, "kms") == 0 ? "kms" : "default";
	}
	return true;
}

static bool
check_encrypted_projects(char **value, void **extra, int source)
{
	const char *ignored;

	if (look_up_project(*value, "", &ignored))
		return true;
	pre_format_elog_string(errno, NULL);
	GUC_check_errdetail_string =
		format_elog_string("Write a list of project:kms and project:default.");
	return false;
}

/* A session sets a route setting; hologres.c says why in the check hooks. */
static bool
session_sets_route(int source, const char *name)
{
	if (source != PGC_S_SESSION || !IsUnderPostmaster)
		return true;
	if (refuse_set)
	{
		GUC_check_errcode(SQLSTATE('4', '2', '7', '0', '4'));
		pre_format_elog_string(errno, NULL);
		GUC_check_errmsg_string =
			format_elog_string("unrecognized configuration parameter \"%s\"", name);
		return false;
	}
	sleep_for(set_delay_ms);
	add(&my_slot()->setting_changes);
	return true;
}

static bool
check_orc(bool *value, void **extra, int source)
{
	return session_sets_route(source, ORC_SETTING);
}

static bool
check_orc_new_name(bool *value, void **extra, int source)
{
	/* A default that came with the connection is the default of both names. */
	if (source >= PGC_S_GLOBAL && source <= PGC_S_CLIENT)
		SetConfigOption(ORC_SETTING, *value ? "on" : "off", PGC_USERSET, source);
	return session_sets_route(source, ORC_SETTING_NEW_NAME);
}

static bool
check_routing(char **value, void **extra, int source)
{
	return session_sets_route(source, ROUTING_SETTING);
}

/* The tags of the statements that are or carry a SET, taken from PostgreSQL's own parser. */
static int	set_tag, database_tag, role_tag, system_tag;

static int
tag_of(const char *statement)
{
	return ((RawStmt *) raw_parser(statement)->head->value)->stmt->tag;
}

/* The SET that a statement is or carries; NULL: none. Its place follows from the fields before it. */
static VariableSetStmt *
set_of_statement(Node *statement)
{
	void	  **fields = (void **) statement;

	if (statement->tag == set_tag)
		return (VariableSetStmt *) statement;
	if (statement->tag == system_tag)
		return fields[1];
	if (statement->tag == database_tag)
		return fields[2];
	if (statement->tag == role_tag)
		return fields[3];
	return NULL;
}

/* Turns a SET of the setting's new name into one of its first name, and counts RESET. */
static void
process_utility(PlannedStmt *statement, const char *query, int context, void *parameters,
				void *environment, void *destination, char *tag)
{
	VariableSetStmt *set = set_of_statement(statement->utility);

	if (set != NULL && set->name != NULL && strcasecmp(set->name, ORC_SETTING_NEW_NAME) == 0)
	{
		statement = copyObjectImpl(statement);
		set = set_of_statement(statement->utility);
		set->name = pstrdup(ORC_SETTING);
	}
	if (set != NULL && statement->utility->tag == set_tag && set->name != NULL &&
		(set->kind == VAR_RESET || set->kind == VAR_SET_DEFAULT) &&
		(strcasecmp(set->name, ORC_SETTING) == 0 || strcasecmp(set->name, ROUTING_SETTING) == 0))
		add(&my_slot()->setting_changes);

	(previous_process_utility ? previous_process_utility : standard_ProcessUtility)
		(statement, query, context, parameters, environment, destination, tag);
}

SQL_FUNCTION(hg_version)
{
	return (Datum) cstring_to_text(version);
}

/* hologres.scan_count(engine int, failures bool): what hologres.scans() is made of */
SQL_FUNCTION(hologres_scan_count)
{
	Slot	   *slot = my_slot();
	int			engine = (int) call->arg[0];

	if (engine < 0 || engine >= ENGINE_COUNT)
		FAIL(errmsg("there is no engine %d", engine));
	return call->arg[1] ? slot->failures[engine] : slot->scans[engine];
}

SQL_FUNCTION(hologres_setting_changes)
{
	return my_slot()->setting_changes;
}

SQL_FUNCTION(hologres_reset_scans)
{
	Slot	   *slot = my_slot();

	for (int engine = 0; engine < ENGINE_COUNT; engine++)
		slot->scans[engine] = slot->failures[engine] = 0;
	slot->setting_changes = 0;
	return 0;
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		FAIL(errcode(SQLSTATE('5', '5', '0', '0', '0')),
			 errmsg("hologres must be loaded through shared_preload_libraries"));

	set_tag = tag_of("SET a = 1");
	database_tag = tag_of("ALTER DATABASE a SET a = 1");
	role_tag = tag_of("ALTER ROLE a SET a = 1");
	system_tag = tag_of("ALTER SYSTEM SET a = 1");

	DefineCustomBoolVariable(ORC_SETTING,
							 "HQE reads the ORC files of MaxCompute foreign tables; off: SQE reads them.",
							 NULL, &orc_via_holo, true, PGC_USERSET, 0, check_orc, NULL, NULL);
	DefineCustomBoolVariable(ORC_SETTING_NEW_NAME, "The newer name of " ORC_SETTING ".",
							 NULL, &orc_via_holo, true, PGC_USERSET, 0, check_orc_new_name, NULL, NULL);
	DefineCustomStringVariable(ROUTING_SETTING,
							   "Which path reads which external catalog: source:path[,source:path...].",
							   NULL, &routing, "odps:hqe,dlf:hqe", PGC_USERSET, 0, check_routing, NULL,
							   NULL);
	DefineCustomStringVariable("hg_computing_resource",
							   "Where queries run: local, or on serverless resources.",
							   NULL, &computing_resource, "local",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hg_experimental_serverless_computing_query_priority",
							"How soon a query gets serverless resources. The stand-in has no queue.",
							NULL, &query_priority, 3, 1, 5, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("hg_experimental_generate_binlog",
							 "Whether writes are logged for consumers. The stand-in has no such log.",
							 NULL, &generate_binlog, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("hg_experimental_enable_fixed_dispatcher_for_scan",
							 "Whether scans take the short path. The stand-in has one path.",
							 NULL, &fixed_dispatcher_for_scan, false,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("hologres.version", "What hg_version() answers.",
							   NULL, &version, DEFAULT_VERSION, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("hologres.encrypted_projects",
							   "Which MaxCompute projects are encrypted: project:kms or project:default, ...",
							   NULL, &encrypted_projects, "", PGC_SUSET,
							   GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL, check_encrypted_projects, NULL, NULL);
	DefineCustomStringVariable("hologres.streamed_project",
							   "The MaxCompute project whose tables are written as streams, not as ORC files.",
							   NULL, &streamed_project, "", PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hologres.fail_after_rows",
							"Rows that a scan returns before it fails on encrypted data.",
							NULL, &fail_after_rows, 0, 0, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hologres.scan_delay_ms",
							"How long a scan of a foreign table waits before its first row.",
							NULL, &scan_delay_ms, 0, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("hologres.set_delay_ms",
							"How long a SET of a route setting takes.",
							NULL, &set_delay_ms, 0, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("hologres.refuse_set",
							 "A SET of a route setting fails, as in a version that does not have it.",
							 NULL, &refuse_set, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("hologres.plan_chooses_engine",
							 "The engine is chosen as a statement is planned, and stays as long as the plan.",
							 NULL, &plan_chooses_engine, false, PGC_SUSET, 0, NULL, NULL, NULL);
	EmitWarningsOnPlaceholders("hologres");

	RequestAddinShmemSpace(SLOTS * sizeof(Slot));
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

/* Foreign tables. */

/* What the planner assumes of every table: nobody tells it more. */
#define ASSUMED_ROWS 1000

typedef struct OdpsScan
{
	char	   *project;		/* lower case, without the schema */
	char	   *table;			/* lower case */
	Engine		engine;
	const char *encryption;		/* "kms", "default" or NULL */
	void	  **rows;
	uint64_t	count;
	uint64_t	returned;		/* since the start or the last rescan */
	bool		counted;
} OdpsScan;

static char *
required_option(List *options, const char *name)
{
	for (ListCell *cell = options ? options->head : NULL; cell; cell = cell->next)
	{
		DefElem    *option = cell->value;

		if (strcmp(option->name, name) == 0)
		{
			char	   *value = pstrdup(defGetString(option));

			for (char *letter = value; *letter; letter++)
				*letter = tolower((unsigned char) *letter);
			return value;
		}
	}
	FAIL(errcode(SQLSTATE('H', 'V', '0', '0', 'J')), errmsg("option \"%s\" is required", name));
}

SQL_FUNCTION(odps_fdw_validator)
{
	List	   *options = untransformRelOptions(call->arg[0]);
	bool		of_table = (Oid) call->arg[1] == 3118;	/* pg_foreign_table */

	for (ListCell *cell = options ? options->head : NULL; cell; cell = cell->next)
	{
		DefElem    *option = cell->value;

		if (!of_table ||
			(strcmp(option->name, "project_name") != 0 && strcmp(option->name, "table_name") != 0))
			FAIL(errcode(SQLSTATE('H', 'V', '0', '0', 'D')), errmsg("invalid option \"%s\"", option->name),
				 errhint("Foreign tables of odps_server take project_name and table_name."));
	}
	if (of_table)
	{
		(void) required_option(options, "project_name");
		(void) required_option(options, "table_name");
	}
	return 0;
}

static void
get_rel_size(void *root, RelOptInfo *rel, Oid table)
{
	rel->rows = ASSUMED_ROWS;
}

static void
get_paths(void *root, RelOptInfo *rel, Oid table)
{
	add_path(rel, create_foreignscan_path(root, rel, NULL, rel->rows, 0, rel->rows * 0.01 + 1, NULL,
										  rel->lateral_relids, NULL, NULL));
}

static void *
get_plan(void *root, RelOptInfo *rel, Oid table, void *path, List *targets, List *clauses, void *outer)
{
	List	   *chosen = plan_chooses_engine ? lappend_int(NULL, chosen_engine()) : NULL;

	return make_foreignscan(targets, extract_actual_clauses(clauses, false), rel->relid, NULL, chosen,
							NULL, NULL, outer);
}

/* Runs a query on the data as a superuser: MaxCompute's privileges are not the stand-in's matter. */
static void
query_data(const char *command, int count, Oid *types, Datum *values)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	/* An error ends the transaction, and with it the change of the user. */
	(void) SPI_execute_with_args(command, count, types, values, NULL, true, 0);
	SetUserIdAndSecContext(user, context);
}

/* The statement that reads the data in the shape of the foreign table $1 from the table of the name $2. */
static const char *const shape =
	"SELECT pg_catalog.format('SELECT %s FROM ONLY odps_data.%I', pg_catalog.string_agg("
	"  CASE WHEN a.attisdropped THEN 'NULL::pg_catalog.int4' ELSE pg_catalog.quote_ident(a.attname) END,"
	"  ', ' ORDER BY a.attnum), $2), c.relkind, pg_catalog.min(a.attname) FILTER (WHERE NOT a.attisdropped"
	"  AND d.attname IS NULL),"
	"  pg_catalog.min(a.attname) FILTER (WHERE d.atttypid IS DISTINCT FROM a.atttypid),"
	"  $1::pg_catalog.oid::pg_catalog.regclass"
	" FROM pg_catalog.pg_class c CROSS JOIN pg_catalog.pg_attribute a"
	" LEFT JOIN pg_catalog.pg_attribute d ON d.attrelid = c.oid AND d.attname = a.attname AND d.attnum > 0"
	" WHERE c.relnamespace = 'odps_data'::pg_catalog.regnamespace AND c.relname = $2"
	" AND a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 GROUP BY c.oid, c.relkind";

static void
begin_scan(ForeignScanState *node, int flags)
{
	List	   *options = GetForeignTable(node->relation->id)->options;
	char	   *project = required_option(options, "project_name");
	char	   *table = required_option(options, "table_name");
	char	   *name = psprintf("%s.%s", project, table);
	char	   *schema = strchr(project, '#');
	List	   *chosen = ((ForeignScan *) node->plan_state[1])->private;
	OdpsScan   *scan = palloc0(sizeof(OdpsScan));
	Datum		values[] = {node->relation->id, (Datum) cstring_to_text(name)};
	Oid			types[] = {INT4OID, TEXTOID};
	char	   *missing,
			   *other_type;

	if (schema != NULL)
		*schema = '\0';
	scan->project = project;
	scan->table = table;
	/* A list of integers has them where others have the pointer, in its lower half. */
	scan->engine = chosen == NULL ? chosen_engine() : (Engine) (uint32_t) (uintptr_t) chosen->head->value;
	(void) look_up_project(encrypted_projects, project, &scan->encryption);
	node->scan = scan;
	if (flags & EXEC_FLAG_EXPLAIN_ONLY)
		return;

	SPI_connect();
	query_data(shape, 2, types, values);
	if (SPI_processed == 0)
		FAIL(errcode(SQLSTATE('H', 'V', '0', '0', 'R')), errmsg("Table not found - %s", name));
	if (*SPI_getvalue(SPI_tuptable->rows[0], SPI_tuptable->descriptor, 2) != 'r')
		FAIL(errcode(SQLSTATE('4', '2', '8', '0', '9')),
			 errmsg("Currently not supported table type of %s", name));
	missing = SPI_getvalue(SPI_tuptable->rows[0], SPI_tuptable->descriptor, 3);
	if (missing != NULL)
		FAIL(errcode(SQLSTATE('H', 'V', '0', '0', '5')),
			 errmsg("column \"%s\" of foreign table \"%s\" is not in the MaxCompute table", missing,
					SPI_getvalue(SPI_tuptable->rows[0], SPI_tuptable->descriptor, 5)));
	other_type = SPI_getvalue(SPI_tuptable->rows[0], SPI_tuptable->descriptor, 4);
	if (other_type != NULL)
		FAIL(errcode(SQLSTATE('H', 'V', '0', '0', '4')),
			 errmsg("column \"%s\" of foreign table \"%s\" has another type in MaxCompute", other_type,
					SPI_getvalue(SPI_tuptable->rows[0], SPI_tuptable->descriptor, 5)));

	query_data(SPI_getvalue(SPI_tuptable->rows[0], SPI_tuptable->descriptor, 1), 0, NULL, NULL);
	scan->count = SPI_processed;
	scan->rows = SPI_palloc((scan->count + 1) * sizeof(void *));
	for (uint64_t i = 0; i < scan->count; i++)
		scan->rows[i] = SPI_copytuple(SPI_tuptable->rows[i]);
	SPI_finish();
}

/* Do the session's queries run on serverless resources of a version that reads nothing encrypted there? */
static bool
serverless_cannot_read(void)
{
	int			major = 0;
	int			minor = 0;
	int			patch = 0;

	if (strcasecmp(computing_resource, "serverless") != 0 ||
		sscanf(version, "Hologres %d.%d.%d", &major, &minor, &patch) != 3)
		return false;
	return major * 1000000 + minor * 1000 + patch < 3001003;
}

/* Fails if the engine cannot read how the project is encrypted. */
static void
fail_unless_readable(OdpsScan *scan)
{
	if (scan->engine == ENGINE_HQE && strcmp(scan->project, streamed_project) == 0)
	{
		add(&my_slot()->failures[scan->engine]);
		FAIL(errcode(SQLSTATE('X', 'X', '0', '0', '0')),
			 errmsg_internal("status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: Invalid "
							 "argument: OrcFileMetaHelper.cc(234)-<operator()>: not an ORC file\" }"));
	}
	if (scan->encryption == NULL || scan->engine == ENGINE_COMMON_TABLE)
		return;
	if (scan->engine == ENGINE_HQE || serverless_cannot_read())
	{
		add(&my_slot()->failures[scan->engine]);
		FAIL(errcode(SQLSTATE('X', 'X', '0', '0', '0')),
			 errmsg_internal("status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO "
							 "error: Failed to execute pangu open normal file "
							 "pangu://stand-in:10240/product/odps/%s/data/%s/part/000000_0, "
							 "errorcode: 9, errorcode_description: invalid argument, err_msg: "
							 "PanguParameterInvalidException\" }", scan->project, scan->table));
	}
	if (strcmp(scan->encryption, "default") == 0)
	{
		add(&my_slot()->failures[scan->engine]);
		FAIL(errcode(SQLSTATE('X', 'X', '0', '0', '0')),
			 errmsg_internal("SQE cannot read project %s: its data is encrypted with the default "
							 "key", scan->project),
			 errdetail_internal("These are the stand-in's words: Hologres' own are not published."));
	}
}

static void *
iterate_scan(ForeignScanState *node)
{
	OdpsScan   *scan = node->scan;

	if (!scan->counted)
	{
		scan->counted = true;
		add(&my_slot()->scans[scan->engine]);
		sleep_for(scan_delay_ms);
	}
	check_for_interrupts();
	/* Fewer rows than fail_after_rows: the failure comes where the end would. */
	if (scan->returned >= (uint64_t) fail_after_rows || scan->returned == scan->count)
		fail_unless_readable(scan);
	if (scan->returned == scan->count)
		return ExecClearTuple(node->slot);
	return ExecStoreTuple(scan->rows[scan->returned++], node->slot, 0, false);
}

static void
rescan(ForeignScanState *node)
{
	node->scan->returned = 0;
}

/* What a scan holds goes with the memory of its query. */
static void
end_scan(ForeignScanState *node)
{
}

static void
explain_scan(ForeignScanState *node, void *state)
{
	ExplainPropertyText("Foreign Table Type", "MaxCompute", state);
	ExplainPropertyText("Engine", engine_names[node->scan->engine], state);
}

/* IMPORT FOREIGN SCHEMA: every table of the project, with the option if_table_exist error|ignore */
static List *
import_schema(ImportForeignSchemaStmt *statement, Oid server)
{
	char	   *project = pstrdup(statement->remote_schema);
	const char *if_not_exists = "";
	List	   *result = NULL;
	char	  **texts;
	uint64_t	count;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];

	for (ListCell *cell = statement->options ? statement->options->head : NULL; cell; cell = cell->next)
	{
		DefElem    *option = cell->value;

		if (strcmp(option->name, "if_table_exist") != 0)
			FAIL(errcode(SQLSTATE('H', 'V', '0', '0', 'D')), errmsg("invalid option \"%s\"", option->name));
		if_not_exists = strcmp(defGetString(option), "ignore") == 0 ? "IF NOT EXISTS " : "";
	}
	for (char *letter = project; *letter; letter++)
		*letter = tolower((unsigned char) *letter);
	values[0] = (Datum) cstring_to_text(project);
	values[1] = (Datum) cstring_to_text(statement->local_schema);
	values[2] = (Datum) cstring_to_text(if_not_exists);

	SPI_connect();
	query_data("SELECT pg_catalog.format('CREATE FOREIGN TABLE %s%I.%I (%s) SERVER odps_server"
			   " OPTIONS (project_name %L, table_name %L)', $3, $2,"
			   " pg_catalog.substr(c.relname, pg_catalog.length($1) + 2),"
			   " pg_catalog.string_agg(pg_catalog.format('%I %s', a.attname,"
			   "  pg_catalog.format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum),"
			   " $1, pg_catalog.substr(c.relname, pg_catalog.length($1) + 2))"
			   " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
			   " WHERE c.relnamespace = 'odps_data'::pg_catalog.regnamespace AND c.relkind = 'r'"
			   " AND pg_catalog.left(c.relname, pg_catalog.length($1) + 1) = $1 || '.'"
			   " AND a.attnum > 0 AND NOT a.attisdropped GROUP BY c.oid, c.relname", 3, types, values);
	count = SPI_processed;
	texts = SPI_palloc((count + 1) * sizeof(char *));
	for (uint64_t i = 0; i < count; i++)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->rows[i], SPI_tuptable->descriptor, 1);

		texts[i] = strcpy(SPI_palloc(strlen(text) + 1), text);
	}
	SPI_finish();
	for (uint64_t i = 0; i < count; i++)
		result = lappend(result, texts[i]);
	return result;
}

/* odps_fdw_handler(): how PostgreSQL reads foreign tables of odps_server */
SQL_FUNCTION(odps_fdw_handler)
{
	FdwRoutine *routine = palloc0(sizeof(FdwRoutine));

	/* Only PostgreSQL's headers know this node's tag: another wrapper's routine carries it. */
	routine->node = *(Node *) load_external_function("$libdir/file_fdw", "file_fdw_handler", true, NULL)
		(call);
	routine->get_rel_size = get_rel_size;
	routine->get_paths = get_paths;
	routine->get_plan = get_plan;
	routine->begin = begin_scan;
	routine->iterate = iterate_scan;
	routine->rescan = rescan;
	routine->end = end_scan;
	routine->explain = explain_scan;
	routine->import = import_schema;
	return (Datum) routine;
}
