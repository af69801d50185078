// A WASI program for tests: its first argument selects the action. Every command has one observable behaviour, so that
// output and exit code alone show a test what a guest sees of its pod. Failures go to standard error as
// "probe: COMMAND OBJECT: REASON" with exit code 1; a command that does not exist is exit code 2.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int fail(const char *command, const char *object) {
    fprintf(stderr, "probe: %s %s: %s\n", command, object, strerror(errno));
    return 1;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void pause_for(double seconds) {
    struct timespec rest = {.tv_sec = (time_t)seconds};
    rest.tv_nsec = (long)((seconds - (double)rest.tv_sec) * 1e9);
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {}
}

// Writes all of it, however many calls that takes.
static int write_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0) return -1;
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

static int copy(int from, int to) {
    char buffer[65536];
    for (;;) {
        ssize_t count = read(from, buffer, sizeof buffer);
        if (count < 0) return -1;
        if (count == 0) return 0;
        if (write_all(to, buffer, (size_t)count) != 0) return -1;
    }
}

static int args_command(int argc, char **argv) {
    for (int i = 0; i < argc; i++) puts(argv[i]);
    return 0;
}

static int env_command(void) {
    size_t count = 0;
    while (environ[count] != NULL) count++;
    qsort(environ, count, sizeof *environ, by_text);
    for (size_t i = 0; i < count; i++) puts(environ[i]);
    return 0;
}

static int cat_command(void) {
    return copy(STDIN_FILENO, STDOUT_FILENO) == 0 ? 0 : fail("cat", "standard input");
}

static int read_command(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0 || copy(fd, STDOUT_FILENO) != 0) return fail("read", path);
    return 0;
}

static int write_command(const char *command, const char *path, const char *text, int how) {
    int fd = open(path, O_WRONLY | O_CREAT | how, 0644);
    if (fd < 0 || write_all(fd, text, strlen(text)) != 0 || close(fd) != 0) return fail(command, path);
    return 0;
}

static int ls_command(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL) return fail("ls", path);
    char **names = NULL;
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        names = realloc(names, (count + 1) * sizeof *names);
        if (names == NULL || (names[count++] = strdup(entry->d_name)) == NULL) return fail("ls", path);
    }
    if (count > 0) qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; i < count; i++) puts(names[i]);
    return 0;
}

static int stat_command(const char *path) {
    struct stat found;
    if (stat(path, &found) != 0) return fail("stat", path);
    const char *type = S_ISREG(found.st_mode)   ? "file"
                       : S_ISDIR(found.st_mode) ? "directory"
                       : S_ISCHR(found.st_mode) ? "character device"
                                                : "other";
    printf("%s %lld\n", type, (long long)found.st_size);
    return 0;
}

static int mkdir_command(const char *path) {
    return mkdir(path, 0755) == 0 ? 0 : fail("mkdir", path);
}

// A file or an empty folder.
static int remove_command(const char *path) {
    return remove(path) == 0 ? 0 : fail("remove", path);
}

static int link_command(const char *target, const char *path) {
    return symlink(target, path) == 0 ? 0 : fail("link", path);
}

static int cwd_command(void) {
    char path[4096];
    if (getcwd(path, sizeof path) == NULL) return fail("cwd", "");
    puts(path);
    return 0;
}

// Lines of 16 bytes, each its own number in 15 hexadecimal digits.
static int stdout_command(unsigned long long length) {
    char line[17];
    for (unsigned long long number = 0; length > 0; number++) {
        snprintf(line, sizeof line, "%015llx\n", number);
        size_t count = length < 16 ? (size_t)length : 16;
        if (fwrite(line, 1, count, stdout) != count) return fail("stdout", "");
        length -= count;
    }
    return fflush(stdout) == 0 ? 0 : fail("stdout", "");
}

static int sleep_command(double seconds) {
    puts("sleeping");
    fflush(stdout);
    pause_for(seconds);
    return 0;
}

static _Noreturn void spin_command(void) {
    puts("spinning");
    fflush(stdout);
    for (volatile uint64_t turns = 0;;) turns = turns + 1;
}

static _Noreturn void tick_command(void) {
    for (unsigned number = 1;; number++) {
        printf("tick %u\n", number);
        fflush(stdout);
        pause_for(0.1);
    }
}

static int random_command(size_t count) {
    for (unsigned char bytes[256]; count > 0;) {
        size_t part = count < sizeof bytes ? count : sizeof bytes;
        if (getentropy(bytes, part) != 0) return fail("random", "");
        for (size_t i = 0; i < part; i++) printf("%02x", bytes[i]);
        count -= part;
    }
    putchar('\n');
    return 0;
}

// Touches one MiB after the other until it is killed, or an allocation fails.
static int oom_command(void) {
    const size_t step = 1 << 20;
    puts("eating memory");
    fflush(stdout);
    for (size_t mebibytes = 0;; mebibytes++) {
        // Volatile, or the compiler drops the unread allocation.
        volatile char *piece = malloc(step);
        if (piece == NULL) {
            fprintf(stderr, "probe: oom: refused after %zu MiB\n", mebibytes);
            return 1;
        }
        for (size_t i = 0; i < step; i += 4096) piece[i] = 1;
    }
}

// Answers each line that it reads, as an interpreter does; exits at the line "quit" or at the end of its input.
static int repl_command(void) {
    char line[1024];
    for (fputs("> ", stdout), fflush(stdout); fgets(line, sizeof line, stdin) != NULL; fputs("> ", stdout), fflush(stdout)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strcmp(line, "quit") == 0) return 0;
        printf("you said %s\n", line);
    }
    return 0;
}

// The engine's own functions for sockets: WASI preview 1 has none that make one.
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_open_v2"))) int sock_open_v2(int, int, int *);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_bind_v2"))) int sock_bind_v2(int, const void *, int);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_listen_v2"))) int sock_listen_v2(int, int);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_accept_v2"))) int sock_accept_v2(int, int, int *);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_connect_v2"))) int sock_connect_v2(int, const void *, int);

enum { INET4 = 1, STREAM = 2 };

struct address {
    uint16_t family;
    uint8_t ip[126];
};

struct address_bytes {
    const void *bytes;
    size_t length;
};

// Accepts one connection on a port of every address.
static int accept_command(int port) {
    const struct address everywhere = {.family = INET4};
    const struct address_bytes address = {&everywhere, sizeof everywhere};
    int server = -1;
    int connection = -1;
    if ((errno = sock_open_v2(INET4, STREAM, &server)) != 0) return fail("accept", "open");
    if ((errno = sock_bind_v2(server, &address, port)) != 0) return fail("accept", "bind");
    if ((errno = sock_listen_v2(server, 1)) != 0) return fail("accept", "listen");
    puts("listening");
    fflush(stdout);
    if ((errno = sock_accept_v2(server, 0, &connection)) != 0) return fail("accept", "accept");
    puts("accepted");
    return 0;
}

// Connects to a port of an IPv4 address.
static int connect_command(const char *ip, int port) {
    struct address there = {.family = INET4};
    const struct address_bytes address = {&there, sizeof there};
    unsigned parts[4];
    int connection = -1;
    if (sscanf(ip, "%u.%u.%u.%u", &parts[0], &parts[1], &parts[2], &parts[3]) != 4) {
        errno = EINVAL;
        return fail("connect", ip);
    }
    for (int i = 0; i < 4; i++) there.ip[i] = (uint8_t)parts[i];
    if ((errno = sock_open_v2(INET4, STREAM, &connection)) != 0) return fail("connect", "open");
    if ((errno = sock_connect_v2(connection, &address, port)) != 0) return fail("connect", ip);
    puts("connected");
    return 0;
}

static int usage(void) {
    fputs("usage: probe args|env|cat|read PATH|write PATH TEXT|append PATH TEXT|ls PATH|stat PATH|mkdir PATH\n"
          "             |remove PATH|link TARGET PATH|cwd|stdout N|stderr TEXT\n"
          "             |exit N|trap|sleep SECONDS|spin|tick|random N|oom|repl|accept PORT|connect IPV4 PORT\n",
          stderr);
    return 2;
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    const int given = argc - 2;
#define IS(name, arguments) (strcmp(command, name) == 0 && given == (arguments))
    if (strcmp(command, "args") == 0) return args_command(argc, argv);
    if (IS("env", 0)) return env_command();
    if (IS("cat", 0)) return cat_command();
    if (IS("read", 1)) return read_command(argv[2]);
    if (IS("write", 2)) return write_command("write", argv[2], argv[3], O_TRUNC);
    if (IS("append", 2)) return write_command("append", argv[2], argv[3], O_APPEND);
    if (IS("ls", 1)) return ls_command(argv[2]);
    if (IS("stat", 1)) return stat_command(argv[2]);
    if (IS("mkdir", 1)) return mkdir_command(argv[2]);
    if (IS("remove", 1)) return remove_command(argv[2]);
    if (IS("link", 2)) return link_command(argv[2], argv[3]);
    if (IS("cwd", 0)) return cwd_command();
    if (IS("stdout", 1)) return stdout_command(strtoull(argv[2], NULL, 10));
    if (IS("stderr", 1)) return fprintf(stderr, "%s\n", argv[2]) < 0;
    if (IS("exit", 1)) return (int)strtol(argv[2], NULL, 10);
    if (IS("trap", 0)) __builtin_trap();
    if (IS("sleep", 1)) return sleep_command(strtod(argv[2], NULL));
    if (IS("spin", 0)) spin_command();
    if (IS("tick", 0)) tick_command();
    if (IS("random", 1)) return random_command((size_t)strtoull(argv[2], NULL, 10));
    if (IS("oom", 0)) return oom_command();
    if (IS("repl", 0)) return repl_command();
    if (IS("accept", 1)) return accept_command((int)strtol(argv[2], NULL, 10));
    if (IS("connect", 2)) return connect_command(argv[2], (int)strtol(argv[3], NULL, 10));
    return usage();
}
