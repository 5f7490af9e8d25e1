/* The files of sql/, expanded by tools/expand and embedded by tools/embed at build. */
#ifndef TICKETD_SQL_H
#define TICKETD_SQL_H

/* A numbered file of sql/schema/. */
struct migration {
    int version;
    const char *name;
    const char *const *statements; /* up to NULL: one by one, for Citus takes no several at once */
};

/* In their order. 0 runs before the others at every migrate. */
extern const struct migration sql_migrations[];
extern const int sql_migration_count;

/* The version of the schema that this program works with: the highest number. */
extern const int sql_schema_version;

/* A file of sql/functions/ or sql/views/, or comments.sql. */
struct definition {
    const char *name; /* with its folder */
    const char *sql;
};

/* In the order in which they can be made. */
extern const struct definition sql_definitions[];
extern const int sql_definition_count;

/* The files of sql/queries/. */
extern const char sql_apply_events[];
extern const char sql_probe[];
extern const char sql_part_in_cluster[];
extern const char sql_reject_event[];
extern const char sql_forget_rejected[];
extern const char sql_list_rejected[];
extern const char sql_drop_rejected[];
extern const char sql_begin_import[];
extern const char sql_end_import[];
extern const char sql_prepare_journal[];
extern const char sql_database_time[];
extern const char sql_last_received[];
extern const char sql_prepare_month[];
extern const char sql_check_database[];
extern const char sql_forget_check[];
extern const char sql_project_of_each_node[];
extern const char sql_node_of_projects[];
extern const char sql_schema_version_query[];
extern const char sql_database_identity_query[];
extern const char sql_set_timeouts[];
extern const char sql_report[];
extern const char sql_report_before[];
extern const char sql_report_deliveries[];
extern const char sql_report_delivery[];
extern const char sql_report_list[];
extern const char sql_report_ticket[];
extern const char sql_report_limits[];
extern const char sql_verify_projects[];
extern const char sql_compare_journal[];
extern const char sql_rebuild_ticket[];

/* Of migrate alone. */
extern const char sql_migrate_begin[];
extern const char sql_migrate_lock[];
extern const char sql_lock_holder[];
extern const char sql_foreign_object[];
extern const char sql_migrated_version[];
extern const char sql_record_migration[];
extern const char sql_remember_grants[];
extern const char sql_is_defined[];
extern const char sql_set_definition[];
extern const char sql_define[];
extern const char sql_forgotten_definitions[];
extern const char sql_record_definition[];
extern const char sql_grant_roles[];
extern const char sql_distribute[];
extern const char sql_move_extra[];
extern const char sql_user_triggers[];

#endif
