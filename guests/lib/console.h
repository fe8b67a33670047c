/* The PV console's front end: a page with two byte rings, and an event channel. */
#ifndef CONSOLE_H
#define CONSOLE_H
#include "guest.h"

struct xencons_interface *pv_console(void);
/* Write all of it, waiting where the ring is full. Fits `console_out`. */
void pv_console_write(const char *text, size_t length);
/* What there is of input, at most `size` bytes. */
size_t pv_console_read(char *to, size_t size);
/* Wait until the back end has taken everything. 0: it did not within a second. */
int pv_console_drain(void);
#endif
