//! What the simulated database holds: tables, views and their rows.

use super::value::{SqlError, Type, Value};

/// A table or view.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) kind: Kind,
}

/// Where a relation's rows come from.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Hologres' own storage.
    Table(Vec<Vec<Value>>),
    /// MaxCompute, through `odps_server`.
    Foreign {
        project: &'static str,
        table: &'static str,
        /// Encrypted with a KMS key: HQE cannot read it.
        encrypted: bool,
        rows: Vec<Vec<Value>>,
    },
    /// Another relation.
    View(&'static str),
    /// The simulator's own counters.
    Scans,
    /// The statements the simulator has received.
    Statements,
}

/// A column's name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Type,
}

impl Column {
    pub(super) fn new(name: impl Into<String>, kind: Type) -> Self {
        Self {
            name: name.into(),
            kind,
        }
    }
}

/// Rows, and the error that comes after the last of them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) rows: Vec<Vec<Value>>,
    pub(super) failure: Option<SqlError>,
}

/// The relations every simulated database has.
pub(super) fn relations() -> Vec<Relation> {
    vec![
        relation("public", "customers", &CUSTOMERS, Kind::Table(customers())),
        relation(
            "public",
            "sales_encrypted",
            &SALES,
            Kind::Foreign {
                project: "finance_encrypted",
                table: "sales",
                encrypted: true,
                rows: sales(),
            },
        ),
        relation(
            "public",
            "sales_plain",
            &SALES,
            Kind::Foreign {
                project: "finance_plain",
                table: "sales",
                encrypted: false,
                rows: sales(),
            },
        ),
        relation(
            "public",
            "revenue",
            &[
                ("region", Type::Text),
                ("orders", Type::Int8),
                ("revenue", Type::Float8),
            ],
            Kind::View(
                "SELECT region, count(*) AS orders, sum(amount) AS revenue \
                 FROM public.sales_encrypted GROUP BY region",
            ),
        ),
        relation(
            "osprey_simulator",
            "scans",
            &[
                ("engine", Type::Text),
                ("relation", Type::Text),
                ("scans", Type::Int8),
                ("failures", Type::Int8),
            ],
            Kind::Scans,
        ),
        relation(
            "osprey_simulator",
            "statements",
            &[
                ("connection", Type::Int8),
                ("protocol", Type::Text),
                ("statement", Type::Text),
            ],
            Kind::Statements,
        ),
    ]
}

const CUSTOMERS: [(&str, Type); 4] = [
    ("id", Type::Int4),
    ("name", Type::Text),
    ("region", Type::Text),
    ("active", Type::Bool),
];

const SALES: [(&str, Type); 6] = [
    ("order_id", Type::Int8),
    ("customer_id", Type::Int4),
    ("region", Type::Text),
    ("product", Type::Text),
    ("amount", Type::Float8),
    ("ds", Type::Text),
];

fn relation(
    schema: &'static str,
    name: &'static str,
    columns: &[(&str, Type)],
    kind: Kind,
) -> Relation {
    let columns = columns.iter().map(|(name, kind)| Column::new(*name, *kind));
    Relation {
        schema,
        name,
        columns: columns.collect(),
        kind,
    }
}

fn customers() -> Vec<Vec<Value>> {
    [
        (1, "Aurora Foods", "north", true),
        (2, "Baltic Freight", "north", true),
        (3, "Cedar Textiles", "south", false),
        (4, "Delta Optics", "east", true),
        (5, "Everest Tea", "west", true),
    ]
    .into_iter()
    .map(|(id, name, region, active)| {
        vec![
            Value::Int(id),
            Value::text(name),
            Value::text(region),
            Value::Bool(active),
        ]
    })
    .collect()
}

fn sales() -> Vec<Vec<Value>> {
    [
        (1001, 1, "north", "flour", 1250.5, "20260105"),
        (1002, 2, "north", "pallets", 480.0, "20260105"),
        (1003, 3, "south", "linen", 920.75, "20260106"),
        (1004, 4, "east", "lenses", 3310.0, "20260106"),
        (1005, 5, "west", "oolong", 640.25, "20260107"),
        (1006, 1, "north", "oats", 310.0, "20260107"),
        (1007, 4, "east", "prisms", 1875.5, "20260108"),
        (1008, 5, "west", "sencha", 505.0, "20260108"),
    ]
    .into_iter()
    .map(|(order, customer, region, product, amount, ds)| {
        vec![
            Value::Int(order),
            Value::Int(customer),
            Value::text(region),
            Value::text(product),
            Value::Float(amount),
            Value::text(ds),
        ]
    })
    .collect()
}
