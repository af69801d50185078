// Prints the configuration that a pod gives to its program: arguments, environment, and a ConfigMap
// that is mounted as files. It is plain C, without any code for WebAssembly.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Prints the `key = value` lines of the file at `path`, without comments and empty lines.
static int print_settings(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "config: cannot open %s: %s\n", path, strerror(errno));
        return -1;
    }
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        char key[64], value[128];
        if (line[0] != '#' && sscanf(line, " %63[^= ] = %127[^\n]", key, value) == 2) {
            printf("setting %s: %s\n", key, value);
        }
    }
    int failed = ferror(file);
    fclose(file);
    return failed ? -1 : 0;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fputs("usage: config FILE [ARGUMENT...]\n", stderr);
        return 2;
    }
    const char *stage = getenv("STAGE");
    printf("stage: %s\n", stage != NULL ? stage : "not set");
    for (int i = 2; i < argc; i++) printf("argument %d: %s\n", i - 1, argv[i]);
    return print_settings(argv[1]) == 0 ? 0 : 1;
}
