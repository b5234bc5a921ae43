/*
 * hologres.c
 *		The stand-in's settings: those that Hologres has, under the names that Hologres uses, and
 *		those that steer the stand-in (hologres.*). From them follows the engine that reads a
 *		foreign table.
 *
 * hg_experimental_enable_access_odps_orc_via_holo and hg_enable_access_odps_orc_via_holo are one
 * setting under two names. Both GUCs share one variable, so each shows what was set through the
 * other; and statements that set the second are turned into statements that set the first, so that
 * only one of them has a history to roll back. What is left: set_config() of the second name,
 * followed by SET of the first in the same transaction, rolls back to the value between the two.
 */
#include "hologres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

PG_MODULE_MAGIC;

#define ORC_SETTING "hg_experimental_enable_access_odps_orc_via_holo"
#define ORC_SETTING_NEW_NAME "hg_enable_access_odps_orc_via_holo"
#define ROUTING_SETTING "hg_experimental_external_catalog_routing"

#define DEFAULT_VERSION \
	"Hologres 2.2.10 (tag: release-2.2.x build: Release,Skylake,clang), compatible with " \
	"PostgreSQL 11.3 (stand-in for tests, not Hologres)"

int			hologres_fail_after_rows = 0;
char	   *hologres_streamed_project = NULL;
int			hologres_scan_delay_ms = 0;
bool		hologres_plan_chooses_engine = false;

static bool orc_via_holo = true;
static char *routing = NULL;
static bool generate_binlog = true;
static int	query_priority = 3;
static bool fixed_dispatcher_for_scan = false;
static char *version = NULL;
static int	computing_resource = 0;
static char *encrypted_projects = NULL;
static int	set_delay_ms = 0;
static bool refuse_set = false;

static ProcessUtility_hook_type previous_process_utility = NULL;

/* Where a session's queries run. */
static const struct config_enum_entry computing_resources[] = {
	{"local", 0, false},
	{"serverless", 1, false},
	{NULL, 0, false}
};

void		_PG_init(void);

PG_FUNCTION_INFO_V1(hg_version);

const char *
hologres_engine_name(Engine engine)
{
	switch (engine)
	{
		case ENGINE_HQE:
			return "HQE";
		case ENGINE_SQE:
			return "SQE";
		case ENGINE_COMMON_TABLE:
			return "COMMON_TABLE";
	}
	pg_unreachable();
}

/* Does the routing, `source:path[,source:path...]`, send MaxCompute to the Common Table path? */
static bool
routes_to_common_table(void)
{
	char	   *list = pstrdup(routing);
	char	   *rest = list;
	char	   *entry;
	bool		found = false;

	while ((entry = strsep(&rest, ",")) != NULL)
	{
		while (*entry == ' ')
			entry++;
		if (pg_strcasecmp(entry, "odps:common_table") == 0)
			found = true;
	}
	pfree(list);
	return found;
}

/* Do the session's queries run on serverless resources of a version that reads nothing encrypted there? */
bool
hologres_serverless_cannot_read(void)
{
	int			major = 0;
	int			minor = 0;
	int			patch = 0;

	if (computing_resource == 0 ||
		sscanf(version, "Hologres %d.%d.%d", &major, &minor, &patch) != 3)
		return false;
	return major * 1000000 + minor * 1000 + patch < 3001003;
}

/* The engine that the session's settings choose for a MaxCompute foreign table. */
Engine
hologres_engine(void)
{
	if (routes_to_common_table())
		return ENGINE_COMMON_TABLE;
	return orc_via_holo ? ENGINE_HQE : ENGINE_SQE;
}

/*
 * Reads one `project:kms` or `project:default` of hologres.encrypted_projects; false: it is neither.
 */
static bool
parse_encrypted_project(char *entry, char **project, Encryption *encryption)
{
	char	   *colon = strrchr(entry, ':');

	if (colon == NULL || colon == entry)
		return false;
	*colon = '\0';
	*project = entry;
	if (strcmp(colon + 1, "kms") == 0)
		*encryption = ENCRYPTION_KMS;
	else if (strcmp(colon + 1, "default") == 0)
		*encryption = ENCRYPTION_DEFAULT;
	else
		return false;
	return true;
}

/* How a project, named without its schema, is encrypted; as hologres.encrypted_projects says. */
Encryption
hologres_encryption(const char *project)
{
	char	   *list = pstrdup(encrypted_projects);
	List	   *entries;
	ListCell   *cell;
	Encryption	result = ENCRYPTION_NONE;

	/* The check hook has seen that the list is well formed. */
	(void) SplitIdentifierString(list, ',', &entries);
	foreach(cell, entries)
	{
		char	   *name;
		Encryption	encryption;

		if (parse_encrypted_project(lfirst(cell), &name, &encryption) &&
			pg_strcasecmp(name, project) == 0)
			result = encryption;
	}
	list_free(entries);
	pfree(list);
	return result;
}

static bool
check_encrypted_projects(char **newval, void **extra, GucSource source)
{
	char	   *list = pstrdup(*newval);
	List	   *entries;
	ListCell   *cell;
	bool		good = SplitIdentifierString(list, ',', &entries);

	if (good)
	{
		foreach(cell, entries)
		{
			char	   *name;
			Encryption	encryption;

			if (!parse_encrypted_project(lfirst(cell), &name, &encryption))
				good = false;
		}
	}
	if (!good)
		GUC_check_errdetail("Write a list of project:kms and project:default.");
	list_free(entries);
	pfree(list);
	return good;
}

/* Sleeps, but wakes for a cancel or a lost client. */
void
hologres_sleep(int milliseconds)
{
	for (int i = 0; i < milliseconds; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
}

/*
 * A session sets a route setting: by SET, SET LOCAL, set_config() or a function's SET, which are
 * what comes with this source. Runs in check hooks, because an assign hook is told no source and
 * may not fail.
 */
static bool
session_sets_route(GucSource source, const char *name)
{
	if (source != PGC_S_SESSION || !IsUnderPostmaster)
		return true;
	if (refuse_set)
	{
		GUC_check_errcode(ERRCODE_UNDEFINED_OBJECT);
		GUC_check_errmsg("unrecognized configuration parameter \"%s\"", name);
		return false;
	}
	hologres_sleep(set_delay_ms);
	counters_add_setting_change();
	return true;
}

static bool
check_orc(bool *newval, void **extra, GucSource source)
{
	return session_sets_route(source, ORC_SETTING);
}

static bool
check_orc_new_name(bool *newval, void **extra, GucSource source)
{
	/* A default that came with the connection is the default of both names. */
	if (source >= PGC_S_GLOBAL && source <= PGC_S_CLIENT)
		SetConfigOption(ORC_SETTING, *newval ? "on" : "off", PGC_USERSET, source);
	return session_sets_route(source, ORC_SETTING_NEW_NAME);
}

static bool
check_routing(char **newval, void **extra, GucSource source)
{
	return session_sets_route(source, ROUTING_SETTING);
}

static bool
is_route_setting(const char *name)
{
	return pg_strcasecmp(name, ORC_SETTING) == 0 ||
		pg_strcasecmp(name, ORC_SETTING_NEW_NAME) == 0 ||
		pg_strcasecmp(name, ROUTING_SETTING) == 0;
}

/* The SET that a statement is or carries (ALTER DATABASE ... SET and its like); NULL: none. */
static VariableSetStmt *
set_of_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_VariableSetStmt:
			return (VariableSetStmt *) statement;
		case T_AlterDatabaseSetStmt:
			return ((AlterDatabaseSetStmt *) statement)->setstmt;
		case T_AlterRoleSetStmt:
			return ((AlterRoleSetStmt *) statement)->setstmt;
		case T_AlterSystemStmt:
			return ((AlterSystemStmt *) statement)->setstmt;
		default:
			return NULL;
	}
}

/*
 * Turns a SET of the setting's new name into one of its first name, and counts RESET, which calls
 * no check hook.
 */
static void
process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *query_environment, DestReceiver *dest, QueryCompletion *completion)
{
	VariableSetStmt *set = set_of_statement(pstmt->utilityStmt);

	if (set != NULL && set->name != NULL &&
		pg_strcasecmp(set->name, ORC_SETTING_NEW_NAME) == 0)
	{
		if (read_only_tree)
		{
			pstmt = copyObject(pstmt);
			read_only_tree = false;
			set = set_of_statement(pstmt->utilityStmt);
		}
		set->name = pstrdup(ORC_SETTING);
	}

	if (IsA(pstmt->utilityStmt, VariableSetStmt) &&
		(set->kind == VAR_RESET || set->kind == VAR_SET_DEFAULT) &&
		set->name != NULL && is_route_setting(set->name))
		counters_add_setting_change();

	if (previous_process_utility)
		previous_process_utility(pstmt, query_string, read_only_tree, context, params,
								 query_environment, dest, completion);
	else
		standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params,
								query_environment, dest, completion);
}

/* hg_version(): what hologres.version says */
Datum
hg_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(version));
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("hologres must be loaded through shared_preload_libraries")));

	/* Hologres' own. */
	DefineCustomBoolVariable(ORC_SETTING,
							 "HQE reads the ORC files of MaxCompute foreign tables; off: SQE reads them.",
							 NULL, &orc_via_holo, true,
							 PGC_USERSET, 0, check_orc, NULL, NULL);
	DefineCustomBoolVariable(ORC_SETTING_NEW_NAME,
							 "The newer name of " ORC_SETTING ".",
							 NULL, &orc_via_holo, true,
							 PGC_USERSET, 0, check_orc_new_name, NULL, NULL);
	DefineCustomStringVariable(ROUTING_SETTING,
							   "Which path reads which external catalog: source:path[,source:path...].",
							   NULL, &routing, "odps:hqe,dlf:hqe",
							   PGC_USERSET, 0, check_routing, NULL, NULL);
	DefineCustomBoolVariable("hg_experimental_generate_binlog",
							 "Whether writes are logged for consumers. The stand-in has no such log.",
							 NULL, &generate_binlog, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("hg_experimental_enable_fixed_dispatcher_for_scan",
							 "Whether scans take the short path. The stand-in has one path.",
							 NULL, &fixed_dispatcher_for_scan, false,
							 PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomEnumVariable("hg_computing_resource",
							 "Where queries run: on the instance's own resources or on serverless ones.",
							 NULL, &computing_resource, 0, computing_resources,
							 PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("hg_experimental_serverless_computing_query_priority",
							"How soon a query gets serverless resources. The stand-in has no queue.",
							NULL, &query_priority, 3, 1, 5,
							PGC_USERSET, 0, NULL, NULL, NULL);

	/* What steers the stand-in. */
	DefineCustomStringVariable("hologres.version",
							   "What hg_version() answers.",
							   NULL, &version, DEFAULT_VERSION,
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("hologres.encrypted_projects",
							   "Which MaxCompute projects are encrypted: project:kms or project:default, ...",
							   NULL, &encrypted_projects, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL,
							   check_encrypted_projects, NULL, NULL);
	DefineCustomStringVariable("hologres.streamed_project",
							   "The MaxCompute project whose tables are written as streams, not as ORC files.",
							   NULL, &hologres_streamed_project, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hologres.fail_after_rows",
							"Rows that a scan returns before it fails on encrypted data.",
							NULL, &hologres_fail_after_rows, 0, 0, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hologres.scan_delay_ms",
							"How long a scan of a foreign table waits before its first row.",
							NULL, &hologres_scan_delay_ms, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("hologres.set_delay_ms",
							"How long a SET of a route setting takes.",
							NULL, &set_delay_ms, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("hologres.refuse_set",
							 "A SET of a route setting fails, as in a version that does not have it.",
							 NULL, &refuse_set, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("hologres.plan_chooses_engine",
							 "The engine is chosen as a statement is planned, and stays as long as the plan.",
							 NULL, &hologres_plan_chooses_engine, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("hologres");

	counters_init();
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
