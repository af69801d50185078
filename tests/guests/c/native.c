// A Linux program for tests of native containers in a pod (sidecars): its first argument selects the action. It is
// linked statically, so that an image needs only this file. SIGTERM ends it with exit code 0: as a container's first
// process it needs a handler for that.

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void end(int signal) {
    (void)signal;
    _exit(0);
}

static volatile sig_atomic_t counted;

static void count(int signal) {
    (void)signal;
    counted++;
}

static void end_with_count(int signal) {
    (void)signal;
    _exit(counted);
}

// Counts the stop signal of systemd, a real-time signal and therefore queued, and exits with the count.
static _Noreturn void count_command(void) {
    signal(37, count);
    signal(SIGTERM, end_with_count);
    for (;;) pause();
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

// Opens a path, or standard input for "-".
static int read_command(const char *path) {
    char buffer[65536];
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY);
    if (fd < 0) return perror(path), 1;
    for (ssize_t count; (count = read(fd, buffer, sizeof buffer)) != 0;) {
        if (count < 0 || write(STDOUT_FILENO, buffer, (size_t)count) != count) return perror(path), 1;
    }
    return 0;
}

// Opens a file for writing, and writes nothing.
static int open_command(const char *path) {
    if (open(path, O_WRONLY) < 0) return perror(path), 1;
    return puts("opened"), 0;
}

// Prints the number of a character device.
static int device_command(const char *path) {
    struct stat found;
    if (stat(path, &found) != 0) return perror(path), 1;
    if (!S_ISCHR(found.st_mode)) return fprintf(stderr, "%s: not a character device\n", path), 1;
    return printf("%u:%u\n", major(found.st_rdev), minor(found.st_rdev)), 0;
}

// Stops every process of its pid namespace that it may signal, repeatedly.
static _Noreturn void stop_command(void) {
    puts("stopping");
    fflush(stdout);
    for (;;) kill(-1, SIGSTOP);
}

static void print_privileges(pid_t pid) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "r");
    if (status == NULL) return;
    while (fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "CapBnd:", 7) != 0 && strncmp(line, "Seccomp:", 8) != 0) continue;
        line[strcspn(line, "\n")] = '\0';
        for (char *at = line; *at != '\0'; at++) {
            if (*at == '\t') *at = ' ';
        }
        printf(" %s", line);
    }
    fclose(status);
}

// Attaches to each new process of its pid namespace as soon as it is allowed to, and writes that process's privileges at
// that moment to a file. The first line has its own privileges.
static int attach_command(const char *path) {
    enum { AHEAD = 8 };
    if (freopen(path, "w", stdout) == NULL) return perror(path), 1;
    printf("own");
    print_privileges(getpid());
    putchar('\n');
    fflush(stdout);
    for (pid_t next = getpid() + 1;;) {
        for (pid_t pid = next; pid < next + AHEAD; pid++) {
            int status;
            if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) != 0) continue;
            if (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
                printf("attached");
                print_privileges(pid);
                putchar('\n');
                fflush(stdout);
                ptrace(PTRACE_DETACH, pid, NULL, NULL);
                // If it stopped for another signal first, the attach's SIGSTOP is still pending.
                kill(pid, SIGCONT);
            }
            next = pid + 1;
        }
    }
}

// Lists the pids of all visible processes.
static int processes_command(void) {
    DIR *folder = opendir("/proc");
    if (folder == NULL) return perror("/proc"), 1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') puts(entry->d_name);
    }
    return 0;
}

// Prints the serial number of its keyring, which keyctl(2) returns for the keyring's special id.
static int keyring_command(void) {
    const long get_keyring_id = 0, of_process = -3;
    long id = syscall(SYS_keyctl, get_keyring_id, of_process, 0);
    if (id < 0) return perror("keyctl"), 1;
    return printf("%ld\n", id) < 0;
}

// Lists the names in a folder.
static int list_command(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL) return perror(path), 1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) puts(entry->d_name);
    return 0;
}

// Writes a text to an existing file.
static int write_command(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) return perror(path), 1;
    return 0;
}

// Forks a child that survives SIGTERM; both run until they are killed.
static _Noreturn void family_command(void) {
    if (fork() == 0) {
        signal(SIGTERM, SIG_IGN);
        for (;;) pause();
    }
    for (;;) pause();
}

static void tell_size(int signal) {
    (void)signal;
    struct winsize size;
    char line[64];
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0) _exit(1);
    int length = snprintf(line, sizeof line, "%u columns, %u rows\n", size.ws_col, size.ws_row);
    if (write(STDOUT_FILENO, line, (size_t)length) != length) _exit(1);
}

// Prints the size of its terminal, at first and after each change, and exits after a typed line.
static int size_command(void) {
    char typed;
    struct sigaction action = {.sa_handler = tell_size, .sa_flags = SA_RESTART};
    sigaction(SIGWINCH, &action, NULL);
    tell_size(SIGWINCH);
    return read(STDIN_FILENO, &typed, 1) == 1 ? 0 : 1;
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
    if (strcmp(command, "read") == 0 && argc == 3) return read_command(argv[2]);
    if (strcmp(command, "open") == 0 && argc == 3) return open_command(argv[2]);
    if (strcmp(command, "device") == 0 && argc == 3) return device_command(argv[2]);
    if (strcmp(command, "stop") == 0) stop_command();
    if (strcmp(command, "attach") == 0 && argc == 3) return attach_command(argv[2]);
    if (strcmp(command, "list") == 0 && argc == 3) return list_command(argv[2]);
    if (strcmp(command, "write") == 0 && argc == 4) return write_command(argv[2], argv[3]);
    if (strcmp(command, "keyring") == 0) return keyring_command();
    if (strcmp(command, "processes") == 0) return processes_command();
    if (strcmp(command, "family") == 0) family_command();
    if (strcmp(command, "count") == 0) count_command();
    if (strcmp(command, "size") == 0) return size_command();
    fputs("usage: native env|args|sleep|exit N|tick|read PATH|list PATH|write PATH TEXT|open PATH|device PATH|stop|attach PATH\n"
          "              |keyring|processes|family|count|size\n", stderr);
    return 2;
}
