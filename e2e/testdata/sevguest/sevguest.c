/*
 * A client of /dev/sev-guest and of configfs-tsm that shares nothing with Go:
 * the kernel's own header, system calls, and no library but libc.
 *
 *	sevguest NONCE		all that can be asked for, and what is refused
 *	sevguest --give-up	keys, then a request after which the driver gives up
 *
 * Each line it writes is one step:
 *
 *	NAME result=R errno=NAME exitinfo2=HEX certs_len=N data=HEX
 *
 * with what does not belong to a step left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/sev-guest.h>

/* What exitinfo2 holds before an ioctl, so that it shows who wrote to it. */
#define UNTOUCHED 0x1122334455667788ULL

static int device;

static void hex(const void *data, size_t size)
{
	const unsigned char *bytes = data;

	printf(" data=");
	while (size-- > 0)
		printf("%02x", *bytes++);
}

static const char *name_of(int error)
{
	switch (error) {
	case 0: return "0";
	case EACCES: return "EACCES";
	case EFAULT: return "EFAULT";
	case EFBIG: return "EFBIG";
	case EINVAL: return "EINVAL";
	case EIO: return "EIO";
	case ENOTTY: return "ENOTTY";
	}
	return strerror(error);
}

static void outcome(const char *name, long result)
{
	printf("%s result=%ld errno=%s", name, result, name_of(result < 0 ? errno : 0));
}

/* One ioctl with a response of the given size, of which `shown` bytes from
 * `from` are of interest. */
static void ask(const char *name, unsigned long command, int version, void *request,
		void *response, size_t from, size_t shown)
{
	struct snp_guest_request_ioctl message = {
		.msg_version = version,
		.req_data = (uintptr_t)request,
		.resp_data = (uintptr_t)response,
		.exitinfo2 = UNTOUCHED,
	};

	outcome(name, ioctl(device, command, &message));
	printf(" exitinfo2=%llx", (unsigned long long)message.exitinfo2);
	if (command == SNP_GET_EXT_REPORT && request)
		printf(" certs_len=%u", ((struct snp_ext_report_req *)request)->certs_len);
	if (shown)
		hex((char *)response + from, shown);
	putchar('\n');
}

/* STATUS and REPORT_SIZE precede a report, STATUS a key, in 32 bytes. */
enum { HEAD = 32, REPORT = 1184, KEY = 32 };

static void reports(const unsigned char *nonce)
{
	static struct snp_report_resp response;
	static unsigned char certs[0x5000];
	struct snp_report_req request = { 0 };
	struct snp_ext_report_req extended = { 0 };

	memcpy(request.user_data, nonce, sizeof(request.user_data));
	ask("report", SNP_GET_REPORT, 1, &request, &response, HEAD, REPORT);
	request.vmpl = 3;
	ask("report-vmpl3", SNP_GET_REPORT, 1, &request, &response, HEAD, REPORT);
	request.vmpl = 4;
	ask("report-vmpl4", SNP_GET_REPORT, 1, &request, &response, 0, HEAD);
	request.vmpl = 0;
	request.rsvd[0] = 3; /* KEY_SEL, which the header does not name */
	ask("report-key3", SNP_GET_REPORT, 1, &request, &response, 0, HEAD);
	request.rsvd[0] = 0;

	extended.data = request;
	ask("extended-size", SNP_GET_EXT_REPORT, 1, &extended, &response, 0, 0);
	extended.certs_address = (uintptr_t)certs;
	extended.certs_len = 100;
	ask("extended-odd", SNP_GET_EXT_REPORT, 1, &extended, &response, 0, 0);
	extended.certs_len = 0x5000;
	ask("extended-large", SNP_GET_EXT_REPORT, 1, &extended, &response, 0, 0);
	extended.certs_len = 0x1000;
	ask("extended-small", SNP_GET_EXT_REPORT, 1, &extended, &response, 0, 0);
	ask("extended", SNP_GET_EXT_REPORT, 1, &extended, &response, HEAD, REPORT);
	printf("certificates");
	hex(certs, extended.certs_len);
	putchar('\n');

	ask("version0", SNP_GET_REPORT, 0, &request, &response, 0, 0);
	ask("no-request", SNP_GET_REPORT, 1, NULL, &response, 0, 0);
	ask("no-response", SNP_GET_REPORT, 1, &request, NULL, 0, 0);
	ask("bad-request", SNP_GET_REPORT, 1, (void *)16, &response, 0, 0);
	ask("unknown", _IOWR(SNP_GUEST_REQ_IOC_TYPE, 3, struct snp_guest_request_ioctl), 1, &request, &response, 0, 0);
	outcome("bad-struct", ioctl(device, SNP_GET_REPORT, (void *)16));
	putchar('\n');
}

static void keys(void)
{
	struct snp_derived_key_req request = {
		.guest_field_select = 1 << 3, /* the measurement */
	};
	struct snp_derived_key_resp response;

	ask("key", SNP_GET_DERIVED_KEY, 1, &request, &response, HEAD, KEY);
	ask("key-again", SNP_GET_DERIVED_KEY, 1, &request, &response, HEAD, KEY);
	request.vmpl = 4;
	ask("key-vmpl4", SNP_GET_DERIVED_KEY, 1, &request, &response, 0, HEAD);
}

#define ENTRY "/sys/kernel/config/tsm/report/sevguest-c"

static void put(const char *name, const char *attribute, const void *content, size_t size)
{
	char path[200];
	int file;

	snprintf(path, sizeof(path), ENTRY "/%s", attribute);
	file = open(path, O_WRONLY);
	if (file < 0) {
		outcome(name, file);
	} else {
		outcome(name, write(file, content, size));
		close(file);
	}
	putchar('\n');
}

static void get(const char *name, const char *attribute)
{
	static char content[0x8000];
	ssize_t size = 0, n = 0;
	char path[200];
	int file;

	snprintf(path, sizeof(path), ENTRY "/%s", attribute);
	file = open(path, O_RDONLY);
	if (file < 0) {
		outcome(name, file);
		putchar('\n');
		return;
	}
	while ((n = read(file, content + size, sizeof(content) - size)) > 0)
		size += n;
	outcome(name, n < 0 ? n : size);
	hex(content, size);
	putchar('\n');
	close(file);
}

static void tsm(const unsigned char *nonce)
{
	outcome("tsm-mkdir", mkdir(ENTRY, 0700));
	putchar('\n');
	get("tsm-provider", "provider");
	get("tsm-floor", "privlevel_floor");
	get("tsm-outblob-early", "outblob");
	get("tsm-inblob-read", "inblob");
	put("tsm-outblob-write", "outblob", "x", 1);
	put("tsm-inblob-65", "inblob", "01234567890123456789012345678901234567890123456789012345678901234", 65);
	put("tsm-inblob-63", "inblob", nonce, 63);
	get("tsm-outblob-63", "outblob");
	put("tsm-privlevel-4", "privlevel", "4", 1);
	put("tsm-inblob", "inblob", nonce, 64);
	get("tsm-outblob", "outblob");
	put("tsm-privlevel", "privlevel", "2\n", 2);
	get("tsm-outblob-vmpl2", "outblob");
	get("tsm-auxblob", "auxblob");
	get("tsm-generation", "generation");
	outcome("tsm-rmdir", rmdir(ENTRY));
	putchar('\n');
}

static int parse(const char *text, unsigned char *nonce)
{
	unsigned int byte;
	int i;

	for (i = 0; i < 64; i++) {
		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return -1;
		nonce[i] = byte;
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned char nonce[64] = { 0 };
	int give_up = argc == 2 && !strcmp(argv[1], "--give-up");

	if (argc != 2 || (!give_up && parse(argv[1], nonce))) {
		fprintf(stderr, "usage: sevguest NONCE | --give-up\n");
		return 2;
	}
	device = open("/dev/sev-guest", O_RDWR);
	if (device < 0) {
		perror("/dev/sev-guest");
		return 1;
	}
	if (give_up) {
		static struct snp_report_resp response;
		struct snp_report_req request = { 0 };

		keys();
		/* A message version that no firmware knows. */
		ask("refused", SNP_GET_REPORT, 99, &request, &response, 0, 0);
		ask("after", SNP_GET_REPORT, 1, &request, &response, 0, 0);
		mkdir(ENTRY, 0700);
		put("tsm-inblob", "inblob", nonce, 64);
		get("tsm-after", "outblob");
		rmdir(ENTRY);
	} else {
		reports(nonce);
		keys();
		tsm(nonce);
	}
	return 0;
}
