/* The hosts of a connection string, in another order. Only the store includes this. */
#ifndef TICKETD_STORE_HOSTS_H
#define TICKETD_STORE_HOSTS_H

/* Parameters of a connection that come behind those of the string, and so count instead of them. */
struct hosts {
    const char *keywords[3];
    char *values[3]; /* hosts_free frees */
    int count;
};

/* Where the string names several hosts: the same, beginning with number `turn`, counted from 0 round and round. Else
 * nothing, and so where there is no memory. libpq's lists: PostgreSQL manual, section 34.1.1.3. */
struct hosts hosts_from(const char *conninfo, unsigned turn);
void hosts_free(struct hosts *hosts);

#endif
