/*
 * hologres.h
 *		What the parts of the stand-in for Hologres share.
 */
#ifndef HOLOGRES_H
#define HOLOGRES_H

#include "postgres.h"

/* Hologres' engines for MaxCompute foreign tables. */
typedef enum Engine
{
	ENGINE_HQE,					/* reads the ORC files itself; no encrypted ones */
	ENGINE_SQE,					/* Seahawks; reads what a KMS key encrypted */
	ENGINE_COMMON_TABLE			/* the Common Table path; reads everything */
} Engine;

#define ENGINE_COUNT (ENGINE_COMMON_TABLE + 1)

/* How a MaxCompute project is encrypted. */
typedef enum Encryption
{
	ENCRYPTION_NONE,
	ENCRYPTION_KMS,				/* with a KMS key (BYOK) */
	ENCRYPTION_DEFAULT			/* with MaxCompute's default key */
} Encryption;

/* hologres.c: settings */
extern int	hologres_fail_after_rows;
extern char *hologres_streamed_project;
extern int	hologres_scan_delay_ms;
extern bool hologres_plan_chooses_engine;
extern Engine hologres_engine(void);
extern bool hologres_serverless_cannot_read(void);
extern const char *hologres_engine_name(Engine engine);
extern Encryption hologres_encryption(const char *project);
extern void hologres_sleep(int milliseconds);

/* counters.c: per database, in shared memory, beyond the reach of rollbacks */
extern void counters_init(void);
extern void counters_add_scan(Engine engine);
extern void counters_add_failure(Engine engine);
extern void counters_add_setting_change(void);

#endif							/* HOLOGRES_H */
