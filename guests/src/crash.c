/* A call of a null function pointer, with no trap table: the domain crashes. */
#include "guest.h"

const char guest_name[] = "crash";

void guest_main(void)
{
    void (*volatile nowhere)(void) = 0;
    printf("calling address 0\n");
    nowhere();
    fail("still alive");
}
