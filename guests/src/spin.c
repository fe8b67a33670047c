/* Never gives the CPU back of its own accord. What the book's simplest kernel ends in. */
#include "guest.h"

const char guest_name[] = "spin";

void guest_main(void)
{
    printf("spinning\n");
    for (volatile int spin = 1; spin;) { }
    fail("the loop ended");
}
