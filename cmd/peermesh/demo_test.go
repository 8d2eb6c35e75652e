package main

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"
)

// by is a handling that was ended; letters after the name say what was otherwise: f is
// flagged, x not ended.
func by(who string, n int) handling {
	name, marks, _ := strings.Cut(who, " ")
	return handling{by: name, n: n, flagged: strings.Contains(marks, "f"), ended: !strings.Contains(marks, "x")}
}

func TestAuditFindsWhatIsNotAsPromised(t *testing.T) {
	for name, c := range map[string]struct {
		all    []handling
		twice  int
		faults []string
	}{
		"once each":                      {all: []handling{by("anna", 0), by("ben", 1)}},
		"moved before it was begun":      {all: []handling{by("anna", 0), by("ben f", 1)}},
		"begun by the killed, again":     {all: []handling{by("anna", 0), by("carl x", 1), by("ben f", 1)}, twice: 1},
		"ended by the killed, again":     {all: []handling{by("anna", 0), by("carl", 1), by("ben f", 1)}, twice: 1},
		"again without a flag":           {[]handling{by("anna", 0), by("carl x", 1), by("ben", 1)}, 0, []string{"job 1 was handled again by ben without a flag"}},
		"lost":                           {[]handling{by("anna", 0)}, 0, []string{"job 1 was handled by nobody"}},
		"lost with the killed":           {[]handling{by("anna", 0), by("carl x", 1)}, 0, []string{"job 1 was begun by carl and never ended"}},
		"left in the middle":             {[]handling{by("anna", 0), by("carl x", 1), by("ben fx", 1)}, 1, []string{"job 1 was begun by ben and never ended"}},
		"doubled among the living":       {[]handling{by("anna", 0), by("anna", 1), by("ben f", 1)}, 0, []string{"job 1 was handled 2 times, by anna and ben"}},
		"doubled by the killed":          {[]handling{by("anna", 0), by("carl", 1), by("carl f", 1)}, 0, []string{"job 1 was handled 2 times, by carl and carl"}},
		"by the killed after a live one": {[]handling{by("anna", 0), by("ben", 1), by("carl f", 1)}, 0, []string{"job 1 was handled 2 times, by ben and carl"}},
		"three times":                    {[]handling{by("anna", 0), by("carl x", 1), by("ben f", 1), by("anna f", 1)}, 0, []string{"job 1 was handled 3 times, by carl and anna"}},
		"never sent":                     {[]handling{by("anna", 0), by("ben", 1), by("ben", 7)}, 0, []string{"job 7 was handled by ben, and was not meant for it"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := audit("job", c.all, upTo(2), "carl")
			if got.twice != c.twice || !slices.Equal(got.faults, c.faults) || got.handlings != len(c.all) {
				t.Errorf("got %d twice of %d and faults %q, want %d of %d and %q", got.twice, got.handlings, got.faults, c.twice, len(c.all), c.faults)
			}
		})
	}
}

func TestAuditOnceHoldsExecutionsToOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		outcome socket.Outcome
		all     []handling
		fault   string
	}{
		"answered":                      {wire.OK, []handling{by("anna", 0)}, ""},
		"answered just before the kill": {wire.OK, []handling{by("carl", 0)}, ""},
		"in doubt, begun":               {wire.Indeterminate, []handling{by("carl x", 0)}, ""},
		"in doubt, never begun":         {wire.Indeterminate, nil, ""},
		"certainly not executed":        {wire.Failed, nil, ""},
		"executed twice":                {wire.OK, []handling{by("carl x", 0), by("anna f", 0)}, "book 0 was executed 2 times, by carl and anna"},
		"answered by nobody":            {wire.OK, nil, "book 0 was answered by nobody"},
		"in doubt without need":         {wire.Indeterminate, []handling{by("anna", 0)}, "book 0 is in doubt, and anna has executed it"},
		"failed, and executed":          {wire.Failed, []handling{by("carl x", 0)}, "book 0 failed, and carl has executed it"},
		"an error of the handler":       {wire.Error, []handling{by("anna", 0)}, "book 0 ended with an error"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(auditOnce("book", c.all, []socket.Outcome{c.outcome}, "carl").faults, "; ")
			if got != c.fault {
				t.Errorf("got fault %q, want %q", got, c.fault)
			}
		})
	}
}

func TestAuditSeesOrder(t *testing.T) {
	for want, all := range map[bool][]handling{
		true:  {by("anna", 0), by("anna", 1), by("anna", 4)},
		false: {by("anna", 1), by("anna", 0), by("anna", 4)},
	} {
		got := audit("news", all, []int{0, 1, 4}, "").ordered("news")
		if got.inOrder != want || (len(got.faults) == 0) != want {
			t.Errorf("%v: in order %v with faults %q, want %v", all, got.inOrder, got.faults, want)
		}
	}
}

func TestClaimsAreMadeOnlyWithoutFaults(t *testing.T) {
	good, bad := audit("job", []handling{by("anna", 0)}, upTo(1), ""), audit("job", nil, upTo(1), "")
	if got := good.claim("each once") + ", " + bad.claim("each once"); got != "each once, NOT each once" {
		t.Errorf("got %q", got)
	}
}

func TestBalanceFindsLedgersThatDoNot(t *testing.T) {
	for name, c := range map[string]struct {
		ledger patterns.Ledger
		fault  string
	}{
		"all accounted for": {patterns.Ledger{Accepted: 10, Done: 8, Dropped: map[string]uint64{"no-subscriber": 2}}, ""},
		"one more accepted": {patterns.Ledger{Accepted: 11, Done: 9, Dropped: map[string]uint64{"no-subscriber": 2}}, "news: 11 were accepted, not 10"},
		"one dead": {patterns.Ledger{Accepted: 10, Done: 7, Dead: 1, Dropped: map[string]uint64{"no-subscriber": 2}},
			"news: the ledger does not balance: 10 accepted = 7 done + 1 dead + 2 dropped (no-subscriber)"},
		"one vanished": {patterns.Ledger{Accepted: 10, Done: 8, Dropped: map[string]uint64{"no-subscriber": 1}},
			"news: the ledger does not balance: 10 accepted = 8 done + 1 dropped (no-subscriber)"},
	} {
		t.Run(name, func(t *testing.T) {
			var r demoResult
			r.balance("news", c.ledger, 10, 2)
			if got := strings.Join(r.Faults, "; "); got != c.fault {
				t.Errorf("got fault %q, want %q", got, c.fault)
			}
		})
	}
}

func TestDiaryJoinsEndsToTheirBeginnings(t *testing.T) {
	d := newDiary()
	for _, e := range []entry{
		{At: demoJobs, N: 1, by: "anna"},
		{At: demoJobs, N: 1, by: "ben", Flagged: true},
		{At: demoJobs, N: 2, by: "anna"},
		{At: demoJobs, N: 1, by: "ben", End: true},
		{At: demoPrice, N: 1, by: "anna", End: true},
	} {
		d.write(e)
	}
	want := []handling{by("anna x", 1), by("ben f", 1), by("anna x", 2)}
	if got := d.of(demoJobs); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if ended, anna, ben := d.ended(demoJobs), d.inHand(demoJobs, "anna"), d.inHand(demoJobs, "ben"); ended != 1 || anna != 2 || ben != 0 {
		t.Errorf("%d ended, anna has %d in hand and ben %d; want 1, 2 and 0", ended, anna, ben)
	}
	if got := audit(demoPrice, d.of(demoPrice), nil, ""); len(got.faults) != 1 {
		t.Errorf("an end without a beginning is no fault: %q", got.faults)
	}
}

func TestQuestionsGoOnUntilSomebodyWasKilled(t *testing.T) {
	killed := make(chan struct{})
	var q inquiry
	for range leastAsked + 10 {
		if _, more := q.next(killed); !more {
			t.Fatal("no more questions, and nobody was killed")
		}
	}
	close(killed)
	if n, more := q.next(killed); more {
		t.Errorf("question %d after the kill", n)
	}
	var early inquiry
	for n := range leastAsked {
		if got, more := early.next(killed); !more || got != n {
			t.Fatalf("question %d, %v; want %d", got, more, n)
		}
	}
	if n, more := early.next(killed); more {
		t.Errorf("question %d of at least %d", n, leastAsked)
	}
}

func TestNewsTableHoldsWhatTheScriptPromises(t *testing.T) {
	if anna, ben := len(expected(annaWants)), len(expected(benWants)); anna != 2*newsRounds || ben != 3*newsRounds {
		t.Errorf("anna should get %d and ben %d, want 2 and 3 a round", anna, ben)
	}
}

func TestDemoPrintsFaultsAndNoOK(t *testing.T) {
	var out bytes.Buffer
	a := newApp(nil, &out, io.Discard, nil)
	r := &demoResult{Faults: []string{"job 1 was handled by nobody"}}
	r.PushPull.name = "push/pull"
	if err := a.printDemo(r); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "fault      job 1 was handled by nobody\n") || strings.Contains(got, "ok ") {
		t.Errorf("printed\n%s", got)
	}
}

// A worker process, but in this one: it plays its role and leaves when stdin ends.
func TestWorkerLeavesWhenItsStdinEnds(t *testing.T) {
	mesh, err := identity.NewMesh(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := mesh.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	stdin, order := io.Pipe()
	answer, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- beChild(newApp(stdin, stdout, io.Discard, nil)) }()
	if err := json.NewEncoder(order).Encode(crewRole{Name: "carl", Mesh: string(pem)}); err != nil {
		t.Fatal(err)
	}
	var l childLine
	if err := json.NewDecoder(answer).Decode(&l); err != nil || l.Ready == nil || l.Ready.Name != "carl" {
		t.Fatalf("first line %+v, %v; want ready", l, err)
	}
	order.Close()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestWorkerSaysWhyItCannot(t *testing.T) {
	var out bytes.Buffer
	err := beChild(newApp(strings.NewReader(`{"name":"carl","mesh":"none"}`+"\n"), &out, io.Discard, nil))
	var l childLine
	if derr := json.Unmarshal(out.Bytes(), &l); err == nil || derr != nil || !strings.Contains(l.Err, "mesh credential") {
		t.Errorf("ended with %v, after %q", err, out.String())
	}
	if err := beChild(newApp(strings.NewReader(""), &out, io.Discard, nil)); err == nil {
		t.Error("without a role it is content")
	}
}
