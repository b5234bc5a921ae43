/*
 * counters.c
 *		What tests ask the stand-in about: scans and failures per engine, and how often a session
 *		changed a route setting. One slot per database, in shared memory, with atomics only, so that
 *		neither a rollback nor a lost session takes a count back.
 */
#include "hologres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

/* Databases that are counted at a time; a slot is never given back. */
#define SLOTS 1024

typedef struct Slot
{
	pg_atomic_uint32 database;	/* InvalidOid: free */
	pg_atomic_uint64 scans[ENGINE_COUNT];
	pg_atomic_uint64 failures[ENGINE_COUNT];
	pg_atomic_uint64 setting_changes;
} Slot;

static Slot *slots = NULL;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

PG_FUNCTION_INFO_V1(hologres_scan_count);
PG_FUNCTION_INFO_V1(hologres_reset_scans);
PG_FUNCTION_INFO_V1(hologres_setting_changes);

static void
shmem_request(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(SLOTS * sizeof(Slot));
}

static void
shmem_startup(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();

	slots = ShmemInitStruct("hologres counters", SLOTS * sizeof(Slot), &found);
	if (found)
		return;
	for (int i = 0; i < SLOTS; i++)
	{
		pg_atomic_init_u32(&slots[i].database, InvalidOid);
		for (int engine = 0; engine < ENGINE_COUNT; engine++)
		{
			pg_atomic_init_u64(&slots[i].scans[engine], 0);
			pg_atomic_init_u64(&slots[i].failures[engine], 0);
		}
		pg_atomic_init_u64(&slots[i].setting_changes, 0);
	}
}

void
counters_init(void)
{
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

/* The slot of the session's database. Slots are claimed in order, so the first free one ends the search. */
static Slot *
my_slot(void)
{
	for (int i = 0; i < SLOTS; i++)
	{
		uint32		owner = pg_atomic_read_u32(&slots[i].database);

		if (owner == InvalidOid &&
			pg_atomic_compare_exchange_u32(&slots[i].database, &owner, MyDatabaseId))
			return &slots[i];
		if (owner == MyDatabaseId)
			return &slots[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("the stand-in for Hologres counts at most %d databases", SLOTS)));
}

void
counters_add_scan(Engine engine)
{
	pg_atomic_fetch_add_u64(&my_slot()->scans[engine], 1);
}

void
counters_add_failure(Engine engine)
{
	pg_atomic_fetch_add_u64(&my_slot()->failures[engine], 1);
}

void
counters_add_setting_change(void)
{
	pg_atomic_fetch_add_u64(&my_slot()->setting_changes, 1);
}

/* hologres.scan_count(engine int, failures bool): what hologres.scans() is made of */
Datum
hologres_scan_count(PG_FUNCTION_ARGS)
{
	int32		engine = PG_GETARG_INT32(0);
	Slot	   *slot = my_slot();

	if (engine < 0 || engine >= ENGINE_COUNT)
		ereport(ERROR, (errmsg("there is no engine %d", engine)));
	PG_RETURN_INT64((int64) pg_atomic_read_u64(PG_GETARG_BOOL(1) ? &slot->failures[engine]
											   : &slot->scans[engine]));
}

/* hologres.reset_scans(): all counts of this database start at 0 again */
Datum
hologres_reset_scans(PG_FUNCTION_ARGS)
{
	Slot	   *slot = my_slot();

	for (int engine = 0; engine < ENGINE_COUNT; engine++)
	{
		pg_atomic_write_u64(&slot->scans[engine], 0);
		pg_atomic_write_u64(&slot->failures[engine], 0);
	}
	pg_atomic_write_u64(&slot->setting_changes, 0);
	PG_RETURN_VOID();
}

/* hologres.setting_changes(): how often sessions of this database set or reset a route setting */
Datum
hologres_setting_changes(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) pg_atomic_read_u64(&my_slot()->setting_changes));
}
