// What an ordinary program does that supervision might disturb: threads, children,
// signals, time-outs, words on standard error, and an exit status. What it prints is the
// same every time.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KVM_GET_API_VERSION 0xAE00
#define KVM_CREATE_VM 0xAE01
#define SEV_ISSUE_CMD 0xC0105300

static volatile sig_atomic_t caught;
static void on_signal(int s) { caught += s; }

static void *thread(void *arg) {
	long sum = 0;
	for (long i = 0; i < 1000; i++) {
		if (ioctl(-1, KVM_CREATE_VM, i) != -1 || errno != EBADF)
			return (void *)-1;
		sum += i ^ (long)arg;
	}
	return (void *)sum;
}

int main(int argc, char **argv) {
	for (int i = 0; i < argc; i++)
		printf("argument %d %s\n", i, i ? argv[i] : "");
	printf("environment %s\n", getenv("ORDINARY"));
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	printf("files %llu %llu\n", (unsigned long long)files.rlim_cur, (unsigned long long)files.rlim_max);
	for (int fd = 0; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf("descriptor %d\n", fd);
	printf("umask %o, group %d\n", umask(0), getpgrp() == getpid());
	struct sigaction action;
	for (int s = 1; s < 32; s++)
		if (sigaction(s, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
			printf("signal %d %s\n", s, action.sa_handler == SIG_IGN ? "ignored" : "caught");
	sigset_t mask;
	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int s = 1; s < 32; s++)
		if (sigismember(&mask, s))
			printf("signal %d blocked\n", s);

	pthread_t threads[8];
	for (long i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, thread, (void *)i);
	for (int i = 0; i < 8; i++) {
		void *sum;
		pthread_join(threads[i], &sum);
		printf("thread %d %ld\n", i, (long)sum);
	}

	// Calls that are held, and fail as ever.
	int null = open("/dev/null", O_RDWR);
	int result = ioctl(null, KVM_GET_API_VERSION, 0);
	printf("ioctl %d %s\n", result, strerror(errno));
	result = ioctl(null, SEV_ISSUE_CMD, NULL);
	printf("issue %d %s\n", result, strerror(errno));

	// A signal interrupts a wait, and a held write is made again after one.
	memset(&action, 0, sizeof action);
	action.sa_handler = on_signal;
	sigaction(SIGALRM, &action, NULL);
	struct itimerspec soon = {{0, 200000}, {0, 200000}};
	timer_t timer;
	timer_create(CLOCK_MONOTONIC, NULL, &timer);
	timer_settime(timer, 0, &soon, NULL);
	int polled = poll(NULL, 0, 10000);
	printf("poll %d %s\n", polled, strerror(errno));
	action.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &action, NULL);
	for (int i = 0; i < 200; i++) {
		char line[32];
		int n = snprintf(line, sizeof line, "said %d\n", i);
		if (write(2, line, n) != n)
			printf("write %d failed\n", i);
	}
	timer_delete(timer);
	printf("caught %d\n", caught > 0);
	struct iovec parts[2] = {{"two ", 4}, {"parts\n", 6}};
	printf("writev %zd\n", writev(2, parts, 2));
	char *volatile nowhere = (char *)8;
	ssize_t written = write(2, nowhere, 100);
	printf("bad write %zd %s\n", written, strerror(errno));

	// Children: one that exits, one that is killed, one by vfork and exec.
	fflush(stdout);
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(41);
	waitpid(child, &status, 0);
	printf("child %d\n", WEXITSTATUS(status));
	fflush(stdout);
	child = fork();
	if (child == 0)
		abort();
	waitpid(child, &status, 0);
	printf("child signal %d\n", WTERMSIG(status));
	fflush(stdout);
	printf("system %d\n", WEXITSTATUS(system("exit 9")));
	fflush(stdout);
	if (argc > 1 && strcmp(argv[1], "die") == 0)
		raise(SIGTERM);
	return 17;
}
