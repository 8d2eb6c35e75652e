package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ownMesh keeps the tests to themselves.
func ownMesh(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "AppData"} {
		t.Setenv(name, home)
	}
}

func openNode(t *testing.T, dir string, peers ...*node.Node) *node.Node {
	t.Helper()
	cfg := node.Config{Name: "test", Dir: dir, Listen: "127.0.0.1:0", NoMDNS: true}
	for _, p := range peers {
		cfg.Peers = append(cfg.Peers, p.Addr().String())
	}
	n, err := node.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// scrape is what a scrape answers, parsed.
type scrape struct {
	text     []byte
	families map[string]*dto.MetricFamily
}

func get(t *testing.T, h http.Handler) scrape {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("got %d: %s", w.Code, w.Body)
	}
	text := must[[]byte](t)(io.ReadAll(w.Body))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return scrape{text, families}
}

// value sums what a metric has with these labels, "name=value".
func (s scrape) value(name string, labels ...string) (sum float64) {
	for _, m := range s.families[name].GetMetric() {
		if has(m, labels) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func has(m *dto.Metric, labels []string) bool {
	for _, l := range labels {
		name, value, _ := strings.Cut(l, "=")
		found := false
		for _, p := range m.GetLabel() {
			found = found || p.GetName() == name && p.GetValue() == value
		}
		if !found {
			return false
		}
	}
	return true
}

// busyPair is two nodes on which everything has happened that metrics can tell of.
func busyPair(t *testing.T) (sending, receiving *node.Node) {
	t.Helper()
	ctx := within(t)
	a := openNode(t, t.TempDir())
	b := openNode(t, t.TempDir(), a)

	push := must[*patterns.Push](t)(a.Push("jobs", patterns.MaxDeliver(1)))
	pull := must[*patterns.Pull](t)(b.Pull("jobs"))
	for i := range 6 {
		must[uint64](t)(push.SendMessage(ctx, &socket.Message{Body: []byte{byte(i)}}))
	}
	for i := range 5 {
		m := must[*socket.Message](t)(pull.Recv(ctx))
		if i == 0 {
			m.Nack(errors.New("bad"))
			continue
		}
		m.Ack()
	}
	pub := must[*patterns.Pub](t)(a.Pub("news"))
	sub := must[*patterns.Sub](t)(b.Sub("news", patterns.DurableName("dash")))
	must[*patterns.Sub](t)(b.Sub("news"))
	if err := errors.Join(pub.Expect("away"), pub.WaitReady(ctx, 2), pub.Publish(ctx, "topic", []byte("body"))); err != nil {
		t.Fatal(err)
	}
	must[*socket.Message](t)(sub.Recv(ctx)).Ack()

	req := must[*patterns.Req](t)(a.Req("upper"))
	rep := must[*patterns.Rep](t)(b.Rep("upper"))
	go rep.ServeRequests(ctx, func(context.Context, *socket.Message) ([]byte, error) { return []byte("answer"), nil })
	must[[]byte](t)(req.Request(ctx, nil))
	return a, b
}

// row is what a metric must come to, with its labels.
type row struct {
	want   float64
	name   string
	labels []string
}

// some is any value above 0.
const some = -1

// eventually asks until all figures are there: some come with the disk or the link.
func eventually(t *testing.T, m *Metrics, all []row) scrape {
	t.Helper()
	ctx := within(t)
	for {
		s := get(t, m)
		var wrong []string
		for _, f := range all {
			if got := s.value(f.name, f.labels...); got != f.want && (f.want != some || got <= 0) {
				wrong = append(wrong, fmt.Sprintf("%s %v: got %v, want %v", f.name, f.labels, got, f.want))
			}
		}
		if len(wrong) == 0 {
			return s
		}
		select {
		case <-ctx.Done():
			t.Fatal(strings.Join(wrong, "\n"))
		case <-time.After(10 * time.Millisecond): // no event tells of a scrape that will be different
		}
	}
}

func TestAScrapeIsValidAndWellFormed(t *testing.T) {
	ownMesh(t)
	a, b := busyPair(t)
	for _, n := range []*node.Node{a, b} {
		s := get(t, New(n))
		problems, err := promlint.New(bytes.NewReader(s.text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		for name, f := range s.families {
			if f.GetHelp() == "" && strings.HasPrefix(name, namespace) {
				t.Errorf("%s: no HELP", name)
			}
		}
		// A pedantic registry refuses what was not described, or comes twice.
		reg := prometheus.NewPedanticRegistry()
		if err := reg.Register(New(n)); err != nil {
			t.Fatal(err)
		}
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
	}
}

func TestAScrapeTellsWhatHappened(t *testing.T) {
	ownMesh(t)
	a, b := busyPair(t)
	eventually(t, New(a), []row{
		{1, "peermesh_node_info", []string{"node=test", "node_id=" + a.ID().String(), "namespace=default"}},
		{6, "peermesh_sender_accepted_messages_total", []string{"kind=push", "name=jobs"}},
		{4, "peermesh_sender_settled_messages_total", []string{"kind=push", "name=jobs", "fate=done"}},
		{1, "peermesh_sender_settled_messages_total", []string{"kind=push", "name=jobs", "fate=dead"}},
		{1, "peermesh_sender_owed_messages", []string{"kind=push", "name=jobs", "state=leased"}},
		{1, "peermesh_dead_letters", []string{"kind=push", "name=jobs"}},
		{1, "peermesh_sender_consumers", []string{"kind=push", "name=jobs", "state=ready"}},
		{1, "peermesh_subscription_owed_messages", []string{"name=news", "subscription=away"}},
		{0, "peermesh_subscription_attached", []string{"name=news", "subscription=away"}},
		{1, "peermesh_subscription_attached", []string{"name=news", "subscription=dash"}},
		{1, "peermesh_sender_settled_messages_total", []string{"kind=req", "name=upper", "fate=done"}},
		{1, "peermesh_peers", nil},
		{0, "peermesh_spool_read_only", nil},
		{0, "peermesh_folded", nil},
		{some, "peermesh_link_round_trip_seconds", nil},
		{some, "peermesh_sender_room_messages", []string{"kind=push", "name=jobs"}},
		{some, "peermesh_spool_sync_seconds", nil},
		{some, "peermesh_spool_disk_bytes", nil},
		{some, "peermesh_spool_used_bytes", nil},
		{some, "peermesh_link_sent_packets_total", nil},
		{some, "peermesh_link_smoothed_round_trip_seconds", nil},
		{some, "peermesh_link_congestion_window_bytes", nil},
	})
	eventually(t, New(b), []row{
		{5, "peermesh_receiver_delivered_messages_total", []string{"kind=pull", "name=jobs"}},
		{1, "peermesh_receiver_answered_messages_total", []string{"kind=pull", "name=jobs", "answer=nacked"}},
		{1, "peermesh_receiver_queued_messages", []string{"kind=pull", "name=jobs"}},
		{2, "peermesh_receiver_pipes", []string{"kind=sub", "name=news"}}, // of two subscriptions
	})
}

// TestTheLedgerHoldsInEveryScrape scrapes while messages go through.
func TestTheLedgerHoldsInEveryScrape(t *testing.T) {
	ownMesh(t)
	n := openNode(t, "")
	push := must[*patterns.Push](t)(n.Push("jobs", patterns.Queue(50, 1<<20), patterns.OnOverflow(patterns.DropOldest)))
	pull := must[*patterns.Pull](t)(n.Pull("jobs", patterns.Prefetch(8)))
	ctx, stop := context.WithCancel(within(t))
	ended := make(chan error, 2)
	go func() {
		for ctx.Err() == nil {
			if err := push.Send(context.WithoutCancel(ctx), nil); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	go func() { ended <- pull.Handle(ctx, 4, func(context.Context, *socket.Message) error { return nil }) }()
	m := New(n)
	var last float64
	for last < 1000 {
		s := get(t, m)
		accepted := s.value("peermesh_sender_accepted_messages_total", "name=jobs")
		right := s.value("peermesh_sender_owed_messages", "name=jobs") + s.value("peermesh_sender_settled_messages_total", "name=jobs")
		if left := accepted + s.value("peermesh_sender_carried_messages", "name=jobs"); left != right {
			t.Fatalf("%v accepted, %v accounted for:\n%s", left, right, s.text)
		}
		if accepted < last {
			t.Fatalf("accepted fell from %v to %v", last, accepted)
		}
		last = accepted
	}
	stop()
	if err := errors.Join(<-ended, <-ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNamesBeyondTheBoundAreFoldedAndCounted(t *testing.T) {
	ownMesh(t)
	n := openNode(t, "")
	m := NewWith(n, Config{MaxNames: 2})
	var pushes []*patterns.Push
	open := func(name string, messages int) {
		p := must[*patterns.Push](t)(n.Push(name))
		for range messages {
			if err := p.Send(within(t), nil); err != nil {
				t.Fatal(err)
			}
		}
		pushes = append(pushes, p)
	}
	want := func(when string, folded, named, others float64) {
		t.Helper()
		s := get(t, m)
		accepted := "peermesh_sender_accepted_messages_total"
		got := []float64{s.value("peermesh_folded", "what=names"), s.value(accepted) - s.value(accepted, "name=other"), s.value(accepted, "name=other")}
		if fmt.Sprint(got) != fmt.Sprint([]float64{folded, named, others}) {
			t.Errorf("%s: got %v folded, %v messages of their own, %v of others; want %v %v %v", when, got[0], got[1], got[2], folded, named, others)
		}
		if series := len(s.families[accepted].GetMetric()); series > 3 {
			t.Errorf("%s: %d series", when, series)
		}
	}
	open("a", 1)
	open("b", 2)
	want("two names", 0, 3, 0)
	open("0", 4) // comes later, whatever its place in the alphabet
	open("d", 8)
	want("four names", 2, 3, 12)
	if err := pushes[3].Close(); err != nil {
		t.Fatal(err)
	}
	want("one of the others is gone", 1, 3, 12)
	if err := pushes[0].Close(); err != nil {
		t.Fatal(err)
	}
	want("a named one is gone", 1, 2, 12)
	open("e", 16)
	want("a new one has its place", 1, 18, 12)
	open("d", 3)
	want("one of the others is back", 2, 18, 15)
}

func TestPeersBeyondTheBoundAreFolded(t *testing.T) {
	ownMesh(t)
	n := openNode(t, "")
	for range 3 {
		openNode(t, "", n)
	}
	m := NewWith(n, Config{MaxPeers: 1})
	s := eventually(t, m, []row{{3, "peermesh_peers", nil}})
	if got := s.value("peermesh_folded", "what=peers"); got != 2 {
		t.Errorf("got %v folded", got)
	}
	if got := len(s.families["peermesh_link_sent_packets_total"].GetMetric()); got != 2 {
		t.Errorf("got %d series, want one of a peer and one of the others", got)
	}
}

func TestCountersThatFallAtTheirSourceDoNot(t *testing.T) {
	r := newRising()
	at := series{receiverDuplicates, "pull" + separator + other}
	for i, c := range []struct{ value, want float64 }{{5, 5}, {3, 5}, {4, 6}, {4, 6}} {
		if got := r.add(at, "one", c.value); got != c.want {
			t.Errorf("scrape %d: got %v, want %v", i, got, c.want)
		}
		r.sweep()
	}
	r.sweep() // the source has gone
	if got := r.add(at, "one", 2); got != 8 {
		t.Errorf("a new source of that name: got %v, want 8", got)
	}
	alone := series{receiverDuplicates, "pull" + separator + "jobs"}
	r.add(alone, "one", 7)
	r.sweep()
	r.sweep()
	if _, known := r.totals[alone]; known || len(r.last) != 0 {
		t.Errorf("what has gone is kept: %v %v", r.totals, r.last)
	}
}

func TestTheLongestOfManyIsShown(t *testing.T) {
	r := newRising()
	s := newSheet(&r)
	for _, v := range []float64{1, 3, 2} {
		s.add(linkRTT, v, other, other)
		s.add(linkWindow, v, other, other)
	}
	if got := s.values[series{linkRTT, other + separator + other}]; got != 3 {
		t.Errorf("longest: got %v", got)
	}
	if got := s.values[series{linkWindow, other + separator + other}]; got != 6 {
		t.Errorf("sum: got %v", got)
	}
}

func TestOtherNodesInventNoLabels(t *testing.T) {
	for code, want := range map[identity.Code]string{"": "none", "policy": "policy", "self": "self", "surprise": "other"} {
		if got := codeLabel(code); got != want {
			t.Errorf("%q: got %q, want %q", code, got, want)
		}
	}
}

func TestLatenciesAreObservedForWhoAsks(t *testing.T) {
	ownMesh(t)
	n := openNode(t, "")
	m := NewWith(n, Config{MaxNames: 1})
	then := make(chan struct{}, 1)
	pull := must[*patterns.Pull](t)(n.Pull("jobs", m.OnDone("pull", "jobs", func(*socket.Message) { then <- struct{}{} })))
	push := must[*patterns.Push](t)(n.Push("jobs"))
	if err := push.Send(within(t), nil); err != nil {
		t.Fatal(err)
	}
	must[*socket.Message](t)(pull.Recv(within(t))).Ack()
	<-then

	req := must[*patterns.Req](t)(n.Req("upper"))
	rep := must[*patterns.Rep](t)(n.Rep("upper", m.OnDone("rep", "upper", nil)))
	ctx := within(t)
	go rep.ServeRequests(ctx, func(_ context.Context, m *socket.Message) ([]byte, error) {
		if len(m.Body) == 0 {
			return nil, errors.New("nothing")
		}
		return m.Body, nil
	})
	must[patterns.Reply](t)(m.Request(ctx, req, &socket.Message{Body: []byte("x")}))
	if _, err := m.Request(ctx, req, &socket.Message{}); err == nil {
		t.Error("answered")
	}
	s := get(t, m)
	for _, c := range []struct {
		name   string
		labels []string
	}{
		{"peermesh_receiver_message_age_seconds", []string{"kind=pull", "name=jobs"}},
		{"peermesh_request_seconds", []string{"name=upper", "outcome=ok"}},
		{"peermesh_request_seconds", []string{"name=upper", "outcome=error"}},
	} {
		if got := s.value(c.name, c.labels...); got != 1 {
			t.Errorf("%s %v: got %v observations", c.name, c.labels, got)
		}
	}
	if got := s.value("peermesh_receiver_message_age_seconds", "kind=rep", "name=upper"); got != 0 {
		t.Errorf("a name beyond the bound has a label of its own, with %v observations", got)
	}
}

func TestAClosedNodeCanBeScraped(t *testing.T) {
	ownMesh(t)
	n := openNode(t, t.TempDir())
	m := New(n)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if s := get(t, m); s.value("peermesh_node_info") != 1 {
		t.Errorf("got\n%s", s.text)
	}
}

func TestWhatIsAroundTheNodeIsShown(t *testing.T) {
	ownMesh(t)
	endpoints := []Endpoint{
		{Type: "pull", Name: "jobs", Addr: "a", Peers: 2, Accepted: 5, Refused: 1, Lost: 3, Received: 7, Incoming: 4, Stalled: 6,
			Dropped: map[string]uint64{"malformed": 8}},
		{Type: "push", Name: "done", Addr: "b", Sent: 9, Confirmed: 6, Waiting: 2, Owed: 3, Stopped: true},
		{Type: "pub", Name: "news", Addr: "c", Sent: 1},
		{Type: "pub", Name: "more", Addr: "d", Sent: 2},
	}
	m := NewWith(openNode(t, ""), Config{MaxNames: 2, Gateway: func() Gateway { return Gateway{1, 2, 3, 4} },
		Endpoints: func() []Endpoint { return endpoints }})
	s := get(t, m)
	for _, r := range []row{
		{1, "peermesh_gateway_requests", nil}, {2, "peermesh_gateway_streams", nil}, {3, "peermesh_gateway_leases", nil},
		{4, "peermesh_gateway_body_bytes", nil},
		{2, "peermesh_zeromq_peers", []string{"type=pull", "name=jobs"}},
		{5, "peermesh_zeromq_handshakes_total", []string{"outcome=accepted", "name=jobs"}},
		{1, "peermesh_zeromq_handshakes_total", []string{"outcome=refused", "name=jobs"}},
		{3, "peermesh_zeromq_lost_connections_total", []string{"name=jobs"}}, {7, "peermesh_zeromq_received_messages_total", []string{"name=jobs"}},
		{4, "peermesh_zeromq_pending_messages", []string{"state=incoming"}}, {6, "peermesh_zeromq_stalls_total", []string{"name=jobs"}},
		{8, "peermesh_zeromq_dropped_messages_total", []string{"name=jobs", "reason=malformed"}},
		{9, "peermesh_zeromq_sent_messages_total", []string{"name=done"}}, {6, "peermesh_zeromq_confirmed_messages_total", []string{"name=done"}},
		{2, "peermesh_zeromq_pending_messages", []string{"state=waiting"}}, {3, "peermesh_zeromq_pending_messages", []string{"state=owed"}},
		{1, "peermesh_zeromq_stopped", []string{"name=done"}},
		{3, "peermesh_zeromq_sent_messages_total", []string{"name=other"}}, {2, "peermesh_folded", []string{"what=endpoints"}},
	} {
		if got := s.value(r.name, r.labels...); got != r.want {
			t.Errorf("%s %q: got %v, want %v", r.name, r.labels, got, r.want)
		}
	}
	problems, err := promlint.New(bytes.NewReader(s.text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %+v", err, problems)
	}
	endpoints = endpoints[:3] // and the counters of those that are folded do not fall
	if got := get(t, m).value("peermesh_zeromq_sent_messages_total", "name=other"); got != 3 {
		t.Errorf("got %v, want 3", got)
	}
}
