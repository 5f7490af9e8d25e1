/* The files of sql/, embedded at build by tools/embed. */
#ifndef TICKETD_SQL_H
#define TICKETD_SQL_H

struct migration {
    int version;
    const char *name;
    const char *sql;
};

/* The numbered files in their order: 0 runs before the others and 999 after them, at every migrate. */
extern const struct migration sql_migrations[];
extern const int sql_migration_count;

/* The version of the schema that this program works with: the highest number below 999. */
extern const int sql_schema_version;

extern const char sql_apply_events[];
extern const char sql_apply_event[];
extern const char sql_is_distributed[];
extern const char sql_reject_event[];
extern const char sql_forget_rejected[];
extern const char sql_list_rejected[];
extern const char sql_begin_import[];
extern const char sql_prepare_journal[];
extern const char sql_check_database[];
extern const char sql_schema_version_query[];
extern const char sql_set_timeouts[];
extern const char sql_report[];
extern const char sql_report_ticket[];
extern const char sql_report_limits[];

#endif
