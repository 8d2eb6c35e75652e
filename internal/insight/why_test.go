package insight

import (
	"strings"
	"testing"
)

// The sights of these tests: a pushes jobs to b, which pulls.
func pusher(edit func(*Socket)) Sight {
	o := Socket{Kind: "push", Name: "jobs", Ledger: &Ledger{Accepted: 5, Queued: 4, Leased: 1}, Bound: 100, BoundBytes: 1 << 20,
		Consumers: []Consumer{{ID: "b", Name: "b", Attached: true, Leased: 1}}}
	if edit != nil {
		edit(&o)
	}
	return Sight{Status: Status{ID: "a", Name: "a", Namespace: "default"}, Sockets: []Socket{o},
		Peers: []Peer{{ID: "b", Name: "b", Namespace: "default", Offers: []Offer{{"pull", "jobs"}}}}}
}

func puller(r Received, still int64) Sight {
	return Sight{Status: Status{ID: "b", Name: "b", Namespace: "default"}, Sockets: []Socket{{Kind: "pull", Name: "jobs", StillMs: still, Received: &r}},
		Peers: []Peer{{ID: "a", Name: "a", Namespace: "default"}}}
}

func message(m Message) Sight {
	s := pusher(nil)
	s.Message = &m
	return s
}

func with(s Sight, edit func(*Sight)) Sight {
	edit(&s)
	return s
}

// Causes that the injected faults of package node do not reach.
func TestWhyTellsTheCauseFromWhatIsSeen(t *testing.T) {
	idle := puller(Received{}, 0)
	for name, c := range map[string]struct {
		question string
		here     Sight
		others   []Sight
		code     string
		part     string
	}{
		"all is well":        {"jobs", pusher(func(o *Socket) { o.Ledger = &Ledger{Accepted: 5, Done: 5}; o.Consumers[0].Room = 9 }), nil, CodeOK, "nothing holds up"},
		"paused":             {"jobs", pusher(func(o *Socket) { o.Consumers[0].Paused = true }), []Sight{idle}, CodePaused, "paused"},
		"stuck":              {"jobs", pusher(nil), []Sight{puller(Received{Begun: 1}, 5000)}, CodeStuck, "finished none for 5s"},
		"busy":               {"jobs", pusher(nil), []Sight{puller(Received{Begun: 1}, 0)}, CodeBusy, "as fast as it can"},
		"not asked":          {"jobs", pusher(nil), nil, CodeNoCredit, "all that its prefetch allows|all of \"jobs\""},
		"no Recv":            {"jobs", pusher(nil), []Sight{puller(Received{Queued: 1}, 0)}, CodeNoCredit, "receives none"},
		"from the other end": {"jobs", puller(Received{Begun: 1}, 5000), []Sight{pusher(nil)}, CodeStuck, "at node a: the handler of b"},
		"storage":            {"jobs", with(pusher(nil), func(s *Sight) { s.Status.Disk = &Disk{Failed: "input/output error"} }), []Sight{idle}, CodeDisk, "input/output error"},
		"bytes are full": {"jobs", pusher(func(o *Socket) { o.Bytes = 1 << 20 }), []Sight{puller(Received{Begun: 1}, 9000)}, CodeQueueFull,
			"full: 5 of 100 messages, 1048576 bytes; the handler of b is stuck"},
		"full, but on disk":     {"jobs", pusher(func(o *Socket) { o.Ledger.Queued, o.OnDisk = 500, 480; o.Consumers[0].Room = 1 }), []Sight{idle}, CodeOK, ""},
		"offered, not attached": {"jobs", pusher(func(o *Socket) { o.Consumers = nil }), nil, CodeWaits, "b offers it"},
		"nobody sends":          {"jobs", with(idle, func(s *Sight) { s.Peers = []Peer{{ID: "a", Name: "a"}} }), nil, CodeNobody, "nobody that could be asked sends"},
		"sent by another name":  {"jobs", idle, []Sight{with(pusher(func(o *Socket) { o.Name = "jobz" }), func(*Sight) {})}, CodeMisspelt, `sends to "jobz"`},

		"no such message":    {"jobs/9", message(Message{Seq: 9, Next: 6, State: "unknown"}), nil, CodeUnknown, "the next one gets number 6"},
		"handled":            {"jobs/1", message(Message{Seq: 1, State: "done"}), nil, CodeOK, "was handled"},
		"settled somehow":    {"jobs/1", message(Message{Seq: 1, State: "settled"}), nil, CodeOK, "which way is not known"},
		"delayed":            {"jobs/1", message(Message{Seq: 1, State: "queued", Waits: WaitsDelay, DueMs: 90_000}), nil, CodeWaits, "delay, of which 1m30s are left"},
		"backing off":        {"jobs/1", message(Message{Seq: 1, State: "queued", Waits: WaitsDelay, Deliveries: 2, MaxDeliver: 10}), nil, CodePoison, "2 of 10 deliveries"},
		"of an earlier life": {"jobs/1", message(Message{Seq: 1, State: "queued", Waits: WaitsEarlier}), nil, CodeWaits, "an earlier life"},
		"in hand":            {"jobs/1", message(Message{Seq: 1, State: "leased", By: "b"}), []Sight{idle}, CodeBusy, "b has message 1"},
		"in a dead hand":     {"jobs/1", with(message(Message{Seq: 1, State: "leased", By: "b"}), func(s *Sight) { s.Sockets[0].Consumers[0].Attached = false }), nil, CodeDown, "is away"},
		"behind its key":     {"jobs/1", with(message(Message{Seq: 1, State: "queued", Waits: WaitsKey}), func(s *Sight) { s.Sockets[0].Consumers[0].Room = 5 }), []Sight{idle}, CodeWaits, "its key"},
		"dropped": {"jobs/3", with(message(Message{Seq: 3, State: "settled"}), func(s *Sight) {
			s.Decisions = []Decision{{Name: "jobs", What: Dropped, First: 2, Seq: 4, Code: "shutdown"}}
		}), nil, CodeDropped, "dropped (shutdown)"},
		"dead on disk":                {"jobs/3", message(Message{Seq: 3, State: "dead"}), nil, CodeDead, "is dead"},
		"a queue that nobody numbers": {"jobs/3", idle, []Sight{pusher(func(o *Socket) { o.Ledger = &Ledger{Accepted: 1, Done: 1}; o.Consumers[0].Room = 1 })}, CodeOK, "nothing holds up"},

		"a good peer":     {"b", pusher(nil), []Sight{idle}, CodeOK, "b is linked"},
		"a peer's clock":  {"b", with(pusher(nil), func(s *Sight) { s.Status.WallMs = 1 }), []Sight{with(idle, func(s *Sight) { s.Status.WallMs = 3_600_001 })}, CodeClock, "differs by 1h0m0s"},
		"oneself":         {"a", pusher(nil), nil, CodeOK, "is the node that is asked"},
		"known elsewhere": {"far", pusher(nil), []Sight{with(idle, func(s *Sight) { s.Peers = []Peer{{ID: "far", Name: "far", Addr: "10.9.9.9:1"}} })}, CodeUnreachable, "b has a link to far, and a has none"},
		"silent": {"10.0.0.9", with(pusher(nil), func(s *Sight) {
			s.Candidates = []Candidate{{Addr: "10.0.0.9:1", Source: "static", Verdict: "no answer"}}
		}), nil, CodeUnreachable, "nothing answers at 10.0.0.9:1"},
		"a flapping link": {"b", with(pusher(nil), func(s *Sight) { s.Events = []Event{{ID: "b", State: "down"}, {ID: "b", State: "down"}} }), nil, CodeOK, "lost 2 times"},
		"nothing like it": {"weather", pusher(nil), nil, CodeUnknown, "nothing called"},
		"alone":           {"weather", Sight{}, nil, CodeNobody, "no peers and has heard of no address"},
		"alone, silence":  {"weather", Sight{Candidates: []Candidate{{Addr: "10.0.0.9:1", Verdict: "no answer"}}}, nil, CodeUnreachable, "nothing answers at"},
		"alone, left":     {"weather", Sight{Events: []Event{{Name: "b", State: "down", Reason: "it left"}}}, nil, CodeDown, "it left"},
	} {
		t.Run(name, func(t *testing.T) {
			a := Why(c.question, c.here, c.others)
			found := false
			for _, part := range strings.Split(c.part, "|") {
				found = found || strings.Contains(a.Cause, part)
			}
			if a.Code != c.code || !found || len(a.Evidence) == 0 || a.Code != CodeOK && a.Cure == "" {
				t.Errorf("%s: got %+v, want code %s and %q", c.question, a, c.code, c.part)
			}
		})
	}
}

// Every refusal that a node may be told of has a cause and a cure, and the placeholder is gone from what is said.
func TestEveryRefusalHasACure(t *testing.T) {
	for code := range refusals {
		var a Answer
		if !a.refused(code, "because", "b") || a.Cause == "" || a.Cure == "" || strings.Contains(a.Cause, "%") || a.Evidence[0] != "because" {
			t.Errorf("%s: %+v", code, a)
		}
	}
	var a Answer
	if a.refused("superseded", "", "b") {
		t.Error("a link that gave way to another is no fault")
	}
}
