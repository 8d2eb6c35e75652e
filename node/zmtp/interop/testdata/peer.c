// A ZeroMQ program in C for the tests and the benchmark.
//
//   peer push bind|connect ADDR COUNT SIZE   sends numbered messages, says "sent", and waits for the end of its input
//   peer pull bind|connect ADDR COUNT        says "first" with the first message and "got" after the last one, and waits likewise
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void check(int ok, const char *what) {
	if (!ok) {
		fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
		exit(1);
	}
}

static void say(const char *what) {
	puts(what);
	fflush(stdout);
}

int main(int argc, char **argv) {
	check(argc >= 5, "usage");
	int push = strcmp(argv[1], "push") == 0;
	long count = atol(argv[4]);
	void *ctx = zmq_ctx_new();
	void *s = zmq_socket(ctx, push ? ZMQ_PUSH : ZMQ_PULL);
	check(s != NULL, "zmq_socket");
	int rc = strcmp(argv[2], "bind") == 0 ? zmq_bind(s, argv[3]) : zmq_connect(s, argv[3]);
	check(rc == 0, argv[3]);
	if (push) {
		size_t size = (size_t)atol(argv[5]);
		char *body = malloc(size);
		check(body != NULL && size >= 24, "size");
		memset(body, '.', size);
		for (long i = 0; i < count; i++) {
			int n = snprintf(body, size, "%ld ", i);
			body[n] = '.';
			check(zmq_send(s, body, size, 0) == (int)size, "zmq_send");
		}
		say("sent");
	} else {
		zmq_msg_t m;
		check(zmq_msg_init(&m) == 0, "zmq_msg_init");
		say("ready");
		for (long i = 0; i < count; i++) {
			check(zmq_msg_recv(&m, s, 0) >= 0, "zmq_msg_recv");
			if (i == 0) {
				say("first");
			}
		}
		say("got");
	}
	while (getchar() != EOF) { // what is sent is written, and what came is confirmed meanwhile
	}
	_Exit(0);
}
