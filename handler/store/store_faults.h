/* Whose fault it is that an event is not taken: its own, a neighbour's who holds what it needs, or nobody's while the
 * database is away. Only the store's files include this.
 *
 * An event that fails alone is a suspect. It is its own fault when the database takes another one afterwards, a made-up
 * one if there is no other; then it is set aside. */
#ifndef TICKETD_STORE_FAULTS_H
#define TICKETD_STORE_FAULTS_H

#include "store/store_pipeline.h"

/* The jobs of one store_apply that have no verdict yet. */
struct work {
    struct job *jobs;     /* all, by ticket */
    struct job **waiting; /* those without a verdict, in the order in which they are tried */
    size_t count;         /* of waiting */
    struct job **chosen;  /* those of the next pipeline */
    size_t chosen_count;
    size_t part;      /* how many it may have */
    size_t among;     /* the one that made several fail is among the first so many that wait; 0: there is none */
    bool long_try;    /* it has one event and may take all of TICKETD_DB_TIMEOUT_MS */
    bool closing;     /* the deadline has passed: what is at fault is still set aside */
    unsigned stuck;   /* events that could not be written alone, since the last commit */
    int64_t patience; /* monotonic milliseconds: how long it goes on past more than one of those */
    unsigned suspect; /* events that failed alone, without a proof that it is their fault */
    bool probed;      /* a made-up event failed too since the last commit: nothing is proven */
};

/* What took too long before, or ended a server process, is not tried with others again; what did so too often only
 * waits for the proof that others are taken. Before the first pipeline. */
void faults_recall(struct store *store, struct work *work);

/* What kind of failure it was. */
enum sqlstate_class faults_classify(const struct attempt *attempt);

/* The chosen job was alone in its pipeline, which failed in this way: notes what is to become of it. */
void faults_note(struct store *store, struct work *work, const struct attempt *attempt, enum sqlstate_class class);

/* The database took an event: the suspects are at fault, and are set aside next. Where it is distributed, those of the
 * same project. */
void faults_prove(struct store *store, struct work *work, const struct job *taken);

/* The same with a made-up event, of a suspect's project. May lose the connection. */
void faults_probe(struct store *store, struct work *work);

/* The event is refused for what job->detail says, of job->field if any: it is set aside next. */
void faults_refuse(struct job *job);

#endif
