/* A client of XenStore over the ring that start_info names: one request at a time, watches not needed by whoever polls. */
#ifndef XENSTORE_H
#define XENSTORE_H
#include "guest.h"

/* Make the ring known; init_events must have been called. */
void xenstore_init(void);
/* The value of a node, with a NUL behind it; its length, or −1 where there is none (or it does not fit). */
int xenstore_read(const char *path, char *to, size_t size);
/* As a number; `other` where there is none. */
u64 xenstore_number(const char *path, u64 other);
/* 0: refused. */
int xenstore_write(const char *path, const char *value);
int xenstore_remove(const char *path);
/* Names of the nodes below, each with a NUL; their number, or −1. */
int xenstore_list(const char *path, char *to, size_t size);
#endif
