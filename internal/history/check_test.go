package history

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// good is a run in which a sender and a puller are killed once each and nothing goes wrong.
const good = `
push.1 ready 1
push.1 send 0 a
push.1 sent 0 1
pull.1 ready 1
push.1 send 1 b
pull.1 deliver 1 a
push.1 sent 1 2
pull.1 done 1
push.1 send 2 c
push.1 killed
pull.1 killed
# what of message 1 the sender has heard it has not printed, and message 3 was stored, but nobody was told
push.2 ready 2
pull.2 ready 2
pull.2 deliver 2 b again
pull.2 done 2
pull.2 deliver 3 c
push.2 settled 2 done pull
pull.2 done 3
push.2 settled 3 done pull
pull.2 summary
pull.2 exit 0
push.2 summary carried=2 done=2
push.2 exit 0
drained
`

// replayed is a message that dies and is sent again, by nobody who says so.
const replayed = `
push.1 ready 1
push.1 send 0 a
push.1 sent 0 1
pull.1 ready 1
pull.1 deliver 1 a
push.1 settled 1 dead
pull.1 deliver 2 a
pull.1 done 2
`

func TestGoodRunHasNoViolation(t *testing.T) {
	for name, text := range map[string]string{
		"killed on both sides":           good,
		"a dead letter that is replayed": replayed + "replayed",
		"two pullers, one of which is slow": `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1
			push.1 send 1 b
			push.1 sent 1 2
			pull-a.1 ready 1
			pull-b.1 ready 1
			pull-b.1 deliver 2 b
			pull-a.1 deliver 1 a
			pull-b.1 done 2
			pull-b.1 deliver 1 a again
			pull-b.1 done 1
			push.1 settled 2 done pull-b
			push.1 settled 1 done pull-b
			push.1 summary accepted=2 done=2
			drained`,
		"the same body twice": `
			push.1 ready 1
			push.1 send 0 a
			push.1 send 1 a
			push.1 killed
			push.2 ready 2
			pull.1 ready 1
			pull.1 deliver 1 a
			pull.1 deliver 2 a
			pull.1 done 1
			pull.1 done 2
			push.2 settled 1 done pull
			push.2 settled 2 done pull
			push.2 summary carried=2 done=2
			drained`,
		"refused, expired and dead": `
			push.1 ready 1
			push.1 send 0 a
			push.1 refused 0
			push.1 send 1 b
			push.1 sent 1 1
			push.1 send 2 c
			push.1 sent 2 2
			push.1 send 3 d
			push.1 sent 3 3
			pull.1 ready 1
			pull.1 deliver 1 b
			pull.1 nack 1
			push.1 settled 1 dead
			push.1 settled 2 expired
			pull.1 gap 1 1 reason=dead
			pull.1 gap 2 2
			pull.1 deliver 3 d
			pull.1 done 3
			push.1 settled 3 done pull
			push.1 summary accepted=3 done=1 dead=1 expired=1
			drained`,
		"a memory level that dies with its sender": `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1 level=memory
			push.1 send 1 b
			push.1 sent 1 2 level=memory
			pull.1 ready 1
			pull.1 deliver 1 a
			pull.1 done 1
			push.1 killed
			push.2 ready 2
			push.2 send 0 c
			push.2 sent 0 65537 level=memory
			pull.1 gap 1 65536 reason=incarnation
			pull.1 deliver 65537 c
			pull.1 done 65537
			push.2 settled 65537 done pull
			push.2 summary accepted=1 done=1
			drained`,
		"requests": `
			req.1 ready 1
			req.1 send 0 a level=once
			req.1 send 1 b level=once
			req.1 send 2 c level=once
			req.1 send 3 d level=once
			rep.1 ready 1
			rep.1 deliver 1 a stream=req.s.default.req.q
			rep.1 executes a req 1
			req.1 reply 0 ok
			rep.1 deliver 2 b stream=req.s.default.req.q
			rep.1 executes b req 2
			rep.1 killed
			req.1 reply 1 indeterminate
			req.1 reply 2 failed
			req.1 reply 3 indeterminate
			drained`,
		"a request asked again": `
			req.1 ready 1
			req.1 send 0 a level=idempotent
			rep.1 executes a req 1
			rep.1 executes a req 1
			req.1 reply 0 ok`,
		"subscriptions": `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1 stream=push.s.default.pub.q
			push.1 send 1 b
			push.1 sent 1 2 stream=push.s.default.pub.q
			push.1 send 2 c
			push.1 sent 2 3 stream=push.s.default.pub.q
			~sub-a.1 ready 1
			~sub-a.1 deliver 1 a stream=push.s.default.pub.q
			~sub-a.1 gap 2 2 reason=dropped stream=push.s.default.pub.q
			~sub-a.1 deliver 3 c stream=push.s.default.pub.q
			~sub-b.1 ready 1
			~sub-b.1 some
			~sub-b.1 deliver 1 a stream=push.s.default.pub.q
			~sub-b.1 deliver 3 c stream=push.s.default.pub.q`,
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Check(play(t, text))
			if err != nil {
				t.Fatal(err)
			}
			if !report.OK() {
				t.Errorf("got violations of %q, want none:\n%s", report.Violated(), report)
			}
		})
	}
}

func TestPlantedViolationsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		want string // the only invariant that is violated
		at   string // one of the events that show it
		text string
	}{
		"a message nobody answers for": {"I1", "push.1:8", strings.Replace(good, "push.1 killed", "push.1 send 3 d\npush.1 sent 3 4\npush.1 killed", 1)},
		"a loss that is told":          {"I1", "pull.2:2", strings.Replace(good, "pull.2 deliver 2", "pull.2 loss 9 9\npull.2 deliver 2", 1)},
		"no fate, though its sender lived on": {"I1", "push.1:3", `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1
			push.1 killed
			push.2 ready 2
			pull.1 ready 1
			pull.1 deliver 1 a
			pull.1 done 1
			push.2 summary
			drained`},
		"a body nobody sent":         {"I2", "pull.2:6", strings.Replace(good, "pull.2 summary", "pull.2 deliver 4 z\npull.2 summary", 1)},
		"a body nobody made":         {"I2", "pull.2:2", strings.Replace(good, "pull.2 deliver 2", "pull.2 mismatch 9\npull.2 deliver 2", 1)},
		"another body than was sent": {"I2", "push.1:3", strings.NewReplacer("pull.1 deliver 1 a", "pull.1 deliver 1 b").Replace(good)},
		"a refused body": {"I2", "pull.1:2", `
			push.1 ready 1
			push.1 send 0 a
			push.1 refused 0
			pull.1 ready 1
			pull.1 deliver 1 a`},
		"a dead letter that was not replayed": {"I2", "pull.1:3", replayed},
		"a dead letter that came twice":       {"I2", "pull.1:5", replayed + "pull.1 deliver 3 a\nreplayed"},
		"an execution nobody asked for": {"I2", "executions:1", `
			req.1 ready 1
			rep.1 executes a req 1`},
		"two deliveries without a flag": {"I3", "pull.2:2", strings.Replace(good, "pull.2 deliver 2 b again", "pull.2 deliver 1 a\npull.2 deliver 2 b again", 1)},
		"delivered after done":          {"I3", "pull.2:4", strings.Replace(good, "pull.2 done 2", "pull.2 done 2\npull.2 deliver 2 b again", 1)},
		"delivered after done, a life later": {"I3", "pull.2:4", strings.Replace(good, "pull.2 deliver 3 c\n",
			"pull.2 deliver 1 a again\npull.2 deliver 3 c\n", 1)},
		"out of order": {"I5", "pull.1:3", `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1
			push.1 send 1 b
			push.1 sent 1 2
			pull.1 ready 1
			pull.1 deliver 2 b
			pull.1 deliver 1 a`},
		"a seq given twice": {"I6", "push.2:3", `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1
			push.1 cut
			push.2 ready 2
			push.2 send 0 b
			push.2 sent 0 1`},
		"two bodies delivered": {"I6", "pull.1:3", `
			push.1 ready 1
			push.1 send 0 a
			push.1 send 1 b
			push.1 killed
			pull.1 ready 1
			pull.1 deliver 1 a
			pull.1 deliver 1 b again`},
		"two fates": {"I7", "push.3:2", good + "push.3 ready 3\npush.3 settled 2 dead\npush.3 summary carried=1 dead=1"},
		"sent again after it was settled": {"I7", "pull-b.1:2", strings.Replace(good, "push.2 summary",
			"pull-b.1 ready 1\npull-b.1 deliver 2 b again\npush.2 summary", 1)},
		"done by who never had it":   {"I8", "push.2:3", strings.Replace(good, "push.2 settled 3 done pull", "push.2 settled 3 done push", 1)},
		"done before it was there":   {"I8", "push.2:2", strings.Replace(strings.Replace(good, "push.2 settled 3 done pull\n", "", 1), "pull.2 deliver 3 c", "push.2 settled 3 done pull\npull.2 deliver 3 c", 1)},
		"done without an answer":     {"I8", "pull.2:4", strings.Replace(good, "pull.2 done 3\n", "", 1)},
		"an answer without delivery": {"I8", "pull.2:2", strings.Replace(good, "pull.2 deliver 2", "pull.2 done 9\npull.2 deliver 2", 1)},
		"an incarnation that falls":  {"I10", "push.2:1", strings.Replace(good, "push.2 ready 2", "push.2 ready 1", 1)},
		"accepted from an older one": {"I10", "push.1:5", `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1
			push.2 ready 2
			push.2 send 0 b
			push.2 sent 0 2
			pull.1 ready 1
			pull.1 deliver 2 b
			push.1 send 1 c
			push.1 sent 1 3
			pull.1 deliver 3 c`},
		"executed twice": {"I11", "executions:2", `
			req.1 ready 1
			req.1 send 0 a level=once
			rep.1 executes a req 1
			rep.1 executes a req 1
			req.1 reply 0 ok`},
		"ok and not executed": {"I11", "req.1:4", `
			req.1 ready 1
			req.1 send 0 a level=once
			rep.1 executes b req 2
			req.1 send 1 b level=once
			req.1 reply 0 ok
			req.1 reply 1 ok`},
		"failed and executed": {"I11", "executions:1", `
			req.1 ready 1
			req.1 send 0 a level=once
			rep.1 executes a req 1
			req.1 reply 0 failed`},
		"two outcomes": {"I11", "req.1:4", `
			req.1 ready 1
			req.1 send 0 a level=once
			req.1 reply 0 failed
			req.1 reply 0 failed`},
		"no outcome": {"I11", "req.1:2", `
			req.1 ready 1
			req.1 send 0 a level=once`},
		"a hole": {"I12", "push.1:5", `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1 stream=push.s.default.pub.q
			push.1 send 1 b
			push.1 sent 1 2 stream=push.s.default.pub.q
			push.1 send 2 c
			push.1 sent 2 3 stream=push.s.default.pub.q
			~sub.1 ready 1
			~sub.1 deliver 1 a stream=push.s.default.pub.q
			~sub.1 deliver 3 c stream=push.s.default.pub.q`},
		"a hole in a queue": {"I12", "push.1:6", `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1
			push.1 send 1 b
			push.1 sent 1 2
			push.1 settled 2 expired
			push.1 send 2 c
			push.1 sent 2 3
			pull.1 ready 1
			pull.1 deliver 1 a
			pull.1 deliver 3 c
			pull.1 done 1
			pull.1 done 3
			push.1 settled 1 done pull
			push.1 settled 3 done pull
			push.1 summary accepted=3 done=2 expired=1
			drained`},
		"delivered from within a gap":    {"I12", "pull.2:3", strings.Replace(good, "pull.2 deliver 2", "pull.2 gap 2 2\npull.2 deliver 2", 1)},
		"a ledger that does not balance": {"I13", "pull.2:6", strings.Replace(good, "pull.2 summary", "pull.2 summary accepted=1", 1)},
		"a ledger that counts otherwise": {"I13", "push.2:4", strings.Replace(good, "carried=2 done=2", "carried=3 done=3", 1)},
		"something is owed":              {"I16", "push.2:4", strings.Replace(good, "carried=2 done=2", "carried=3 done=2 queued=1", 1)},
		"the last life was killed":       {"I16", "push.2:4", strings.Replace(good, "push.2 exit 0", "push.2 killed", 1)},
		"the last life has failed":       {"I16", "push.2:4", strings.Replace(good, "push.2 exit 0", "push.2 exit 5", 1)},
		"no summary":                     {"I16", "push.2:1", strings.Replace(good, "push.2 summary carried=2 done=2\n", "", 1)},
		"drained too late":               {"I16", "push.2:4", "within 3\n" + good},
		"a gap behind its message": {"I18", "pull.1:3", `
			push.1 ready 1
			push.1 send 0 a
			push.1 sent 0 1 level=memory
			push.1 killed
			push.2 ready 2
			push.2 send 0 b
			push.2 sent 0 65537 level=memory
			pull.1 ready 1
			pull.1 deliver 65537 b
			pull.1 gap 1 65536 reason=incarnation`},
		"all is flagged": {"flags", "", flaggedRun(300)},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Check(play(t, c.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := report.Violated(); !slices.Equal(got, []string{c.want}) {
				t.Fatalf("violated: got %q, want only %s:\n%s", got, c.want, report)
			}
			if !strings.Contains(report.String(), c.at) {
				t.Errorf("the report does not show %s:\n%s", c.at, report)
			}
		})
	}
}

// flaggedRun has a thousand deliveries, so many of them flagged, and a kill.
func flaggedRun(flagged int) string {
	var b strings.Builder
	b.WriteString("push.1 ready 1\npull.1 ready 1\npull.1 killed\npush.1 killed\n")
	for i := range 1000 {
		flag := ""
		if i < flagged {
			flag = "again"
		}
		b.WriteString("push.1 send 0 a\npush.1 sent 0 " + strconv.Itoa(i+1) + "\n")
		b.WriteString("pull.1 deliver " + strconv.Itoa(i+1) + " a " + flag + "\n")
	}
	return b.String()
}

func TestFewFlagsAreNoViolation(t *testing.T) {
	report, err := Check(play(t, flaggedRun(299)))
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() || report.Flagged != 299 {
		t.Errorf("got %d flagged and violations of %q, want 299 and none", report.Flagged, report.Violated())
	}
}
