/* Asks for a reboot. */
#include "guest.h"

const char guest_name[] = "reboot";

void guest_main(void)
{
    printf("PASS: reboot\n");
    shutdown(SHUTDOWN_reboot);
}
