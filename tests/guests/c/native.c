// A Linux program for tests of native containers in a pod (sidecars): its first argument says what it does. It is
// linked statically, so that an image needs this one file only. SIGTERM ends it with exit code 0, which a container's
// first process gets only if it asks for it.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void end(int signal) {
    (void)signal;
    _exit(0);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int env_command(void) {
    size_t count = 0;
    while (environ[count] != NULL) count++;
    qsort(environ, count, sizeof *environ, by_text);
    for (size_t i = 0; i < count; i++) puts(environ[i]);
    return 0;
}

static _Noreturn void tick_command(void) {
    const struct timespec tenth = {.tv_nsec = 100000000};
    for (unsigned number = 1;; number++) {
        printf("tick %u\n", number);
        fflush(stdout);
        nanosleep(&tenth, NULL);
    }
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    signal(SIGTERM, end);
    if (strcmp(command, "env") == 0) return env_command();
    if (strcmp(command, "args") == 0) {
        for (int i = 0; i < argc; i++) puts(argv[i]);
        return 0;
    }
    if (strcmp(command, "sleep") == 0) {
        puts("sleeping");
        fflush(stdout);
        for (;;) pause();
    }
    if (strcmp(command, "exit") == 0 && argc == 3) return atoi(argv[2]);
    if (strcmp(command, "tick") == 0) tick_command();
    fputs("usage: native env|args|sleep|exit N|tick\n", stderr);
    return 2;
}
