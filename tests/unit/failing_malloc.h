/* Memory that runs out at the Nth allocation, of this program and of the libraries under it.
 *
 * Include in one file of a test; it takes the place of malloc(3) and its like for the whole process (glibc
 * manual, 3.2.5 "Replacing malloc"). The sanitizers bring their own: there it never fails, and the tests see only that
 * it went well. */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static atomic_long allocations_left = -1; /* below 0: it never fails */
static atomic_bool allocation_failed;

/* From now on `n` allocations go well and all later ones fail. */
static inline void fail_allocations_after(long n)
{
    atomic_store(&allocation_failed, false);
    atomic_store(&allocations_left, n);
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
