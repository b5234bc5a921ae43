/*
 * odps_fdw.c
 *		The foreign-data wrapper of odps_server. A foreign table with the options project_name 'p'
 *		(or 'p#s') and table_name 't' shows the rows of the local table odps_data."p.t" (or
 *		"p#s.t"), column by column of the same name. Whether it may read them depends on the
 *		engine and on how the project is encrypted.
 *
 * The engine is chosen when the executor starts. In PostgreSQL that is within Bind for a SELECT of
 * the extended protocol, and within Execute for everything that writes. With
 * hologres.plan_chooses_engine it is chosen by the planner, and stays as long as the plan. A scan
 * fails where its first row, or the row after hologres.fail_after_rows rows, would come.
 */
#include "hologres.h"

#include "access/heapam.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_table.h"
#include "commands/defrem.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/cost.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#define DATA_SCHEMA "odps_data"

/* What the planner assumes of every table: nobody tells it more. */
#define ASSUMED_ROWS 1000

PG_FUNCTION_INFO_V1(odps_fdw_handler);
PG_FUNCTION_INFO_V1(odps_fdw_validator);

/* A scan that is being executed. */
typedef struct OdpsScan
{
	char	   *project;		/* lower case, without the schema */
	char	   *table;			/* lower case */
	Engine		engine;
	Encryption	encryption;
	Relation	data;			/* NULL while only explained */
	TableScanDesc scan;
	TupleTableSlot *data_slot;
	AttrNumber *columns;		/* for each column of the foreign table its number in data, or 0 */
	int64		returned;		/* rows since the start or the last rescan */
	bool		counted;
} OdpsScan;

static char *
lower_case(const char *text)
{
	return asc_tolower(text, strlen(text));
}

static char *
required_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0)
			return lower_case(defGetString(option));
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
			 errmsg("option \"%s\" is required", name)));
}

/* odps_fdw_validator(): foreign tables take project_name and table_name, nothing else takes any */
Datum
odps_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (catalog != ForeignTableRelationId ||
			(strcmp(option->defname, "project_name") != 0 &&
			 strcmp(option->defname, "table_name") != 0))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", option->defname),
					 errhint("Foreign tables of odps_server take project_name and table_name.")));
	}
	if (catalog == ForeignTableRelationId)
	{
		(void) required_option(options, "project_name");
		(void) required_option(options, "table_name");
	}
	PG_RETURN_VOID();
}

static void
get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid table)
{
	rel->rows = ASSUMED_ROWS;
}

static void
get_paths(PlannerInfo *root, RelOptInfo *rel, Oid table)
{
	Cost		total = rel->rows * DEFAULT_CPU_TUPLE_COST + DEFAULT_SEQ_PAGE_COST;

	add_path(rel, (Path *) create_foreignscan_path(root, rel, NULL, rel->rows, 0, total, NIL,
												   rel->lateral_relids, NULL, NIL));
}

static ForeignScan *
get_plan(PlannerInfo *root, RelOptInfo *rel, Oid table, ForeignPath *path, List *target_list,
		 List *clauses, Plan *outer_plan)
{
	List	   *chosen = NIL;

	if (hologres_plan_chooses_engine)
		chosen = list_make1_int(hologres_engine());
	return make_foreignscan(target_list, extract_actual_clauses(clauses, false), rel->relid,
							NIL, chosen, NIL, NIL, outer_plan);
}

/* Finds for each column of the foreign table the data's column of the same name. */
static AttrNumber *
map_columns(Relation foreign, Relation data)
{
	TupleDesc	wanted = RelationGetDescr(foreign);
	TupleDesc	present = RelationGetDescr(data);
	AttrNumber *columns = palloc0(Max(wanted->natts, 1) * sizeof(AttrNumber));

	for (int i = 0; i < wanted->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(wanted, i);

		if (column->attisdropped)
			continue;
		for (int j = 0; j < present->natts; j++)
		{
			Form_pg_attribute candidate = TupleDescAttr(present, j);

			if (!candidate->attisdropped &&
				strcmp(NameStr(candidate->attname), NameStr(column->attname)) == 0)
				columns[i] = j + 1;
		}
		if (columns[i] == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_COLUMN_NAME_NOT_FOUND),
					 errmsg("column \"%s\" of foreign table \"%s\" is not in the MaxCompute table",
							NameStr(column->attname), RelationGetRelationName(foreign))));
		if (TupleDescAttr(present, columns[i] - 1)->atttypid != column->atttypid)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_DATA_TYPE),
					 errmsg("column \"%s\" of foreign table \"%s\" has another type in MaxCompute",
							NameStr(column->attname), RelationGetRelationName(foreign))));
	}
	return columns;
}

static void
begin_scan(ForeignScanState *node, int eflags)
{
	Relation	foreign = node->ss.ss_currentRelation;
	List	   *options = GetForeignTable(RelationGetRelid(foreign))->options;
	char	   *project = required_option(options, "project_name");
	char	   *table = required_option(options, "table_name");
	char	   *name = psprintf("%s.%s", project, table);
	char	   *schema = strchr(project, '#');
	List	   *chosen = ((ForeignScan *) node->ss.ps.plan)->fdw_private;
	OdpsScan   *scan = palloc0(sizeof(OdpsScan));
	Oid			data;

	if (schema != NULL)
		*schema = '\0';
	scan->project = project;
	scan->table = table;
	scan->engine = chosen != NIL ? linitial_int(chosen) : hologres_engine();
	scan->encryption = hologres_encryption(project);
	node->fdw_state = scan;
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;

	/* No privilege on the data is asked for: MaxCompute's privileges are not the stand-in's matter. */
	data = get_relname_relid(name, get_namespace_oid(DATA_SCHEMA, false));
	if (!OidIsValid(data))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_TABLE_NOT_FOUND),
				 errmsg("Table not found - %s", name)));
	scan->data = table_open(data, AccessShareLock);
	if (scan->data->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("Currently not supported table type of %s", name)));
	scan->columns = map_columns(foreign, scan->data);
	scan->data_slot = table_slot_create(scan->data, NULL);
	scan->scan = table_beginscan(scan->data, node->ss.ps.state->es_snapshot, 0, NULL);
}

/* Fails if the engine cannot read how the project is encrypted. */
static void
fail_unless_readable(OdpsScan *scan)
{
	if (scan->engine == ENGINE_HQE && strcmp(scan->project, hologres_streamed_project) == 0)
	{
		counters_add_failure(scan->engine);
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg_internal("status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: Invalid "
								 "argument: OrcFileMetaHelper.cc(234)-<operator()>: not an ORC file\" }")));
	}
	if (scan->encryption == ENCRYPTION_NONE || scan->engine == ENGINE_COMMON_TABLE)
		return;

	if (scan->engine == ENGINE_HQE || hologres_serverless_cannot_read())
	{
		counters_add_failure(scan->engine);
		/* The vendor's words, with the page's placeholders filled in and its cut end closed. */
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg_internal("status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO "
								 "error: Failed to execute pangu open normal file "
								 "pangu://stand-in:10240/product/odps/%s/data/%s/part/000000_0, "
								 "errorcode: 9, errorcode_description: invalid argument, err_msg: "
								 "PanguParameterInvalidException\" }",
								 scan->project, scan->table)));
	}

	if (scan->encryption == ENCRYPTION_DEFAULT)
	{
		counters_add_failure(scan->engine);
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg_internal("SQE cannot read project %s: its data is encrypted with the default "
								 "key", scan->project),
				 errdetail_internal("These are the stand-in's words: Hologres' own are not "
									"published.")));
	}
}

static TupleTableSlot *
iterate_scan(ForeignScanState *node)
{
	OdpsScan   *scan = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	int			natts = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	if (!scan->counted)
	{
		scan->counted = true;
		counters_add_scan(scan->engine);
		hologres_sleep(hologres_scan_delay_ms);
	}
	if (scan->returned >= hologres_fail_after_rows)
		fail_unless_readable(scan);

	if (!table_scan_getnextslot(scan->scan, ForwardScanDirection, scan->data_slot))
	{
		/* Fewer rows than fail_after_rows: the failure comes where the end would. */
		fail_unless_readable(scan);
		return slot;
	}
	slot_getallattrs(scan->data_slot);
	for (int i = 0; i < natts; i++)
	{
		AttrNumber	column = scan->columns[i];

		slot->tts_isnull[i] = column == 0 || scan->data_slot->tts_isnull[column - 1];
		slot->tts_values[i] = column == 0 ? (Datum) 0 : scan->data_slot->tts_values[column - 1];
	}
	scan->returned++;
	return ExecStoreVirtualTuple(slot);
}

static void
rescan(ForeignScanState *node)
{
	OdpsScan   *scan = node->fdw_state;

	scan->returned = 0;
	table_rescan(scan->scan, NULL);
}

static void
end_scan(ForeignScanState *node)
{
	OdpsScan   *scan = node->fdw_state;

	if (scan == NULL || scan->data == NULL)
		return;
	table_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->data_slot);
	table_close(scan->data, AccessShareLock);
}

static void
explain_scan(ForeignScanState *node, ExplainState *es)
{
	OdpsScan   *scan = node->fdw_state;

	ExplainPropertyText("Foreign Table Type", "MaxCompute", es);
	ExplainPropertyText("Engine", hologres_engine_name(scan->engine), es);
}

/* The CREATE FOREIGN TABLE that shows one table of odps_data. */
static char *
import_statement(Relation data, const char *project, const char *table, const char *schema,
				 bool if_not_exists)
{
	TupleDesc	columns = RelationGetDescr(data);
	StringInfoData sql;
	const char *separator = "";

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE FOREIGN TABLE %s%s (", if_not_exists ? "IF NOT EXISTS " : "",
					 quote_qualified_identifier(schema, table));
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped)
			continue;
		appendStringInfo(&sql, "%s%s %s", separator, quote_identifier(NameStr(column->attname)),
						 format_type_with_typemod(column->atttypid, column->atttypmod));
		separator = ", ";
	}
	appendStringInfo(&sql, ") SERVER odps_server OPTIONS (project_name %s, table_name %s)",
					 quote_literal_cstr(project), quote_literal_cstr(table));
	return sql.data;
}

/* IMPORT FOREIGN SCHEMA: every table of the project, with the option if_table_exist error|ignore */
static List *
import_schema(ImportForeignSchemaStmt *stmt, Oid server)
{
	char	   *project = lower_case(stmt->remote_schema);
	char	   *prefix = psprintf("%s.", project);
	bool		if_not_exists = false;
	List	   *statements = NIL;
	List	   *tables = NIL;
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;
	Oid			schema = get_namespace_oid(DATA_SCHEMA, false);
	ListCell   *cell;

	foreach(cell, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "if_table_exist") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", option->defname)));
		if_not_exists = strcmp(defGetString(option), "ignore") == 0;
	}

	catalog = table_open(RelationRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relnamespace == schema && form->relkind == RELKIND_RELATION &&
			strncmp(NameStr(form->relname), prefix, strlen(prefix)) == 0)
			tables = lappend_oid(tables, form->oid);
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);

	foreach(cell, tables)
	{
		Relation	data = table_open(lfirst_oid(cell), AccessShareLock);

		statements = lappend(statements,
							 import_statement(data, project,
											  RelationGetRelationName(data) + strlen(prefix),
											  stmt->local_schema, if_not_exists));
		table_close(data, AccessShareLock);
	}
	return statements;
}

/* odps_fdw_handler(): how PostgreSQL reads foreign tables of odps_server */
Datum
odps_fdw_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = get_rel_size;
	routine->GetForeignPaths = get_paths;
	routine->GetForeignPlan = get_plan;
	routine->BeginForeignScan = begin_scan;
	routine->IterateForeignScan = iterate_scan;
	routine->ReScanForeignScan = rescan;
	routine->EndForeignScan = end_scan;
	routine->ExplainForeignScan = explain_scan;
	routine->ImportForeignSchema = import_schema;
	PG_RETURN_POINTER(routine);
}
