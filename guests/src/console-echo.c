/* Exercise 7.10: the whole console driver. Input arrives by event; every line is echoed; `quit` ends it. */
#include "console.h"

const char guest_name[] = "console-echo";

static char line[128];
static size_t used;
static volatile int quit;

static void input(u32 port)
{
    char chunk[64];
    size_t n;
    (void)port;
    while ((n = pv_console_read(chunk, sizeof chunk)) > 0) {
        for (size_t i = 0; i < n; i++) {
            char c = chunk[i];
            if (c != '\n' && c != '\r') {
                if (used + 1 < sizeof line) line[used++] = c;
                continue;
            }
            line[used] = 0;
            used = 0;
            if (!strcmp(line, "quit")) quit = 1;
            else if (line[0]) printf("you said: %s\n", line);
        }
    }
}

void guest_main(void)
{
    init_events();
    u32 port = start_info->console.domU.evtchn;
    console_out = pv_console_write;
    event_handlers[port] = input;
    printf("Say something (quit ends):\n");
    port_unmask(port);
    for (;;) {
        /* Mask, look, block: SCHEDOP_block unmasks as it blocks, so that no event can fall in between. */
        events_mask();
        if (quit) break;
        sched_op(SCHEDOP_block, 0);
    }
    printf("PASS: %s\n", guest_name);
    pv_console_drain();
    console_out = console_io_out;
    pass();
}
