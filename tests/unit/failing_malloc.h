/* Memory that runs out at the Nth allocation, for good or for once, of this program and of the libraries under it.
 *
 * Include in one file of a test; it takes the place of malloc(3) and its like for the whole process (glibc
 * manual, 3.2.5 "Replacing malloc"). The sanitizers bring their own: there it never fails, and the tests see only that
 * it went well. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static atomic_long allocations_left = -1; /* below 0: it never fails */
static atomic_bool allocation_failed, only_one_fails;

/* From now on `n` allocations go well and all later ones fail. */
static inline void fail_allocations_after(long n)
{
    atomic_store(&allocation_failed, false);
    atomic_store(&only_one_fails, false);
    atomic_store(&allocations_left, n);
}

/* From now on `n` allocations go well, one fails, and all later ones go well. */
static inline void fail_one_allocation_after(long n)
{
    fail_allocations_after(n);
    atomic_store(&only_one_fails, true);
}

/* Ends that. Returns whether one did fail. */
static inline bool stop_failing_allocations(void)
{
    atomic_store(&allocations_left, -1);
    return atomic_load(&allocation_failed);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static bool may_allocate(void)
{
    long left = atomic_load(&allocations_left);
    if (left < 0)
        return true;
    if (left > 0) {
        atomic_store(&allocations_left, left - 1);
        return true;
    }
    atomic_store(&allocation_failed, true);
    if (atomic_load(&only_one_fails))
        atomic_store(&allocations_left, -1);
    errno = ENOMEM;
    return false;
}

void *malloc(size_t size)
{
    return may_allocate() ? __libc_malloc(size) : NULL;
}

void *calloc(size_t count, size_t size)
{
    return may_allocate() ? __libc_calloc(count, size) : NULL;
}

void *realloc(void *old, size_t size)
{
    return may_allocate() ? __libc_realloc(old, size) : NULL;
}
#endif
