package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/coder/websocket"
)

// dial opens a WebSocket.
func (w *world) dial(path string) *websocket.Conn {
	w.t.Helper()
	ws, res, err := websocket.Dial(w.t.Context(), "ws://localhost"+path, &websocket.DialOptions{HTTPClient: w.client})
	if err != nil {
		w.t.Fatalf("%v: %v", err, res)
	}
	return ws
}

// hear reads what a WebSocket says next, which must be of one of those types.
func (w *world) hear(ws *websocket.Conn, kinds ...string) (d struct {
	delivery
	ID    string
	Final bool
	More  int
}) {
	w.t.Helper()
	ctx, stop := context.WithTimeout(w.t.Context(), time.Hour)
	defer stop()
	_, data, err := ws.Read(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(data, &d); err != nil || !slices.Contains(kinds, d.Type) {
		w.t.Fatalf("%s, want a %s (%v)", data, kinds, err)
	}
	return d
}

func (w *world) say(ws *websocket.Conn, v any) {
	w.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := ws.Write(w.t.Context(), websocket.MessageText, data); err != nil {
		w.t.Fatal(err)
	}
}

// event is a server-sent event.
type event struct{ kind, id, data string }

// nextEvent reads one, and passes signs of life by.
func nextEvent(t *testing.T, in *bufio.Reader) (e event) {
	t.Helper()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			e.kind = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "":
			if e != (event{}) {
				return e
			}
		}
	}
}

func TestSubscriberGetsEventsOfItsTopics(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/pub/weather/bern.temp", "before"), 200)
		res := w.ask("GET", "/v1/sub/weather?topic=*.temp&topic=basel.%3E", "", "Accept", "text/event-stream")
		defer res.Body.Close()
		in := bufio.NewReader(res.Body)
		if e := nextEvent(t, in); e.kind != "open" || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%+v, %v", e, res.Header)
		}
		synctest.Wait()
		for _, topic := range []string{"bern.temp", "bern.wind", "basel.wind"} {
			w.text(w.ask("POST", "/v1/pub/weather/"+topic, topic), 200)
		}
		for _, want := range []string{"bern.temp", "basel.wind"} {
			e := nextEvent(t, in)
			var d delivery
			if err := json.Unmarshal([]byte(e.data), &d); err != nil || e.kind != "message" || d.Topic != want || *d.Text != want || d.Lease != "" {
				t.Errorf("%+v (%v), want %s", e, err, want)
			}
			if !strings.HasSuffix(e.id, "/"+string(rune('0'+d.Seq))) {
				t.Errorf("id %q of seq %d", e.id, d.Seq)
			}
		}
		w.problem(w.ask("GET", "/v1/sub/weather", ""), 406, "stream")
		w.problem(w.ask("GET", "/v1/sub/weather?from=never", "", "Accept", "text/event-stream"), 400, "invalid")
	})
}

func TestDurableSubscriptionGoesOnWhereItWasAcked(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/pub/news/a", "nobody"), 200)
		ws := w.dial("/v1/sub/news?durable=dash&window=2")
		w.hear(ws, "open")
		synctest.Wait()
		for _, body := range []string{"1", "2", "3"} {
			w.text(w.ask("POST", "/v1/pub/news/a", body), 200)
		}
		first, second := w.hear(ws, "message"), w.hear(ws, "message")
		w.say(ws, order{Ack: first.Lease})
		third, a := w.hear(ws, "message", "acked"), w.hear(ws, "message", "acked") // there is room in the window again
		if third.Type == "acked" {
			third, a = a, third
		}
		if a.Lease != first.Lease || !a.Final || third.Text == nil {
			t.Fatalf("%+v, %+v", a, third)
		}
		if *first.Text != "1" || *second.Text != "2" || *third.Text != "3" {
			t.Errorf("%q %q %q", *first.Text, *second.Text, *third.Text)
		}
		w.problem(w.ask("GET", "/v1/sub/news?durable=dash&topic=b", "", "Accept", "text/event-stream"), 409, "topics")
		ws.CloseNow()
		ws = w.dial("/v1/sub/news?durable=dash")
		w.hear(ws, "open")
		for _, want := range []string{"2", "3"} {
			d := w.hear(ws, "message")
			if *d.Text != want || !d.Redelivered {
				t.Errorf("%+v, want %s, flagged", d, want)
			}
			w.text(w.ask("POST", "/v1/sub/news/"+d.Lease+"/ack", ""), 200)
		}
		ws.CloseNow()
	})
}

func TestStreamOfAQueueGivesBackWhatItHeldWhenItEnds(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		for _, body := range []string{"1", "2"} {
			w.text(w.ask("POST", "/v1/push/jobs", body), 200)
		}
		ws := w.dial("/v1/pull/jobs?lease=600")
		w.hear(ws, "open")
		w.hear(ws, "message")
		last := w.hear(ws, "message")
		w.say(ws, order{Extend: last.Lease})
		w.hear(ws, "extended")
		w.say(ws, order{Ack: last.Lease})
		w.hear(ws, "acked")
		w.say(ws, order{Ack: last.Lease})
		w.hear(ws, "gone")
		began := time.Now()
		ws.CloseNow()
		res := w.ask("POST", "/v1/pull/jobs", "")
		if got := w.text(res, 200); got != "1" || res.Header.Get("Peermesh-Redelivered") != "true" || time.Since(began) > time.Second {
			t.Errorf("%q after %v, %v; want 1, flagged, at once", got, time.Since(began), res.Header)
		}
		ws = w.dial("/v1/pull/jobs")
		w.hear(ws, "open")
		w.say(ws, map[string]string{"akc": "x"})
		if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("%v, want it refused", err)
		}
	})
}

func TestRequestTellsTheTruthAboutItsOutcome(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		ask := func(body, deadline string) *http.Response {
			return w.ask("POST", "/v1/req/upper?deadline="+deadline, body, "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		}
		res := ask("early", "1s")
		if w.problem(res, 503, "not-executed"); res.Header.Get(headerOutcome) != "failed" {
			t.Errorf("outcome %q", res.Header.Get(headerOutcome))
		}
		rep, err := w.mesh.Node("other").Rep("upper")
		if err != nil {
			t.Fatal(err)
		}
		go rep.ServeRequests(t.Context(), func(ctx context.Context, m *socket.Message) ([]byte, error) {
			switch string(m.Body) {
			case "fail":
				return nil, errors.New("no")
			case "hang":
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []byte(strings.ToUpper(string(m.Body)) + " " + m.Headers["traceparent"]), nil
		})
		res = ask("hello", "5s")
		if got := w.text(res, 200); got != "HELLO 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" || res.Header.Get(headerOutcome) != "ok" {
			t.Errorf("%q, outcome %q", got, res.Header.Get(headerOutcome))
		}
		res = ask("fail", "5s")
		if p := w.problem(res, 502, "remote-error"); p.Detail != "no" || res.Header.Get(headerOutcome) != "error" {
			t.Errorf("%+v, outcome %q", p, res.Header.Get(headerOutcome))
		}
		res = ask("hang", "2s")
		if w.problem(res, 504, "indeterminate"); res.Header.Get(headerOutcome) != "indeterminate" {
			t.Errorf("outcome %q", res.Header.Get(headerOutcome))
		}
	})
}

func TestClientAnswersAServiceByPolling(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		req, err := w.mesh.Node("other").Req("upper")
		if err != nil {
			t.Fatal(err)
		}
		type result struct {
			body string
			err  error
		}
		ask := func(body string) <-chan result {
			out := make(chan result, 1)
			go func() {
				ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
				defer stop()
				answer, err := req.Request(ctx, []byte(body))
				out <- result{string(answer), err}
			}()
			return out
		}
		one := ask("one")
		w.text(w.ask("POST", "/v1/rep/lower?wait=0", ""), 204)
		res := w.ask("POST", "/v1/rep/upper", "")
		if got := w.text(res, 200); got != "one" || res.Header.Get(headerDeadline) == "" {
			t.Errorf("%q, %v", got, res.Header)
		}
		w.text(w.ask("POST", res.Header.Get("Peermesh-Reply"), "ONE"), 204)
		w.problem(w.ask("POST", res.Header.Get("Peermesh-Reply"), "ONE"), 410, "lease-over")
		if r := <-one; r.body != "ONE" || r.err != nil {
			t.Errorf("%+v", r)
		}
		two := ask("two")
		res = w.ask("POST", "/v1/rep/upper", "")
		w.text(res, 200)
		w.text(w.ask("POST", res.Header.Get("Peermesh-Reply")+"/error", "I cannot"), 204)
		var remote *patterns.RemoteError
		if r := <-two; !errors.As(r.err, &remote) || remote.Message != "I cannot" {
			t.Errorf("%+v", r)
		}
		three := ask("three") // whose client dies with it
		res = w.ask("POST", "/v1/rep/upper", "")
		w.text(res, 200)
		if r := <-three; !errors.Is(r.err, patterns.ErrIndeterminate) {
			t.Errorf("%+v, want it indeterminate", r)
		}
		time.Sleep(time.Second)
		w.problem(w.ask("POST", res.Header.Get("Peermesh-Reply"), "late"), 410, "lease-over")
	})
}

func TestRequestInTheHandsOfAClientIsNotAnsweredByAGatewayThatCloses(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		req, err := w.mesh.Node("other").Req("upper")
		if err != nil {
			t.Fatal(err)
		}
		outcome := make(chan error, 1)
		go func() {
			_, err := req.Request(t.Context(), []byte("one"))
			outcome <- err
		}()
		w.text(w.ask("POST", "/v1/rep/upper", ""), 200) // whether its client executes it nobody knows
		if err := w.g.Close(); err != nil {
			t.Error(err)
		}
		if err := <-outcome; !errors.Is(err, patterns.ErrIndeterminate) {
			t.Errorf("%v, want it indeterminate", err)
		}
	})
}

func TestRequestIsBegunOnlyWhileAClientWaits(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/rep/upper?wait=0", ""), 204) // it is open from now on, and nobody is there
		res := w.ask("POST", "/v1/req/upper?deadline=3", "a")
		w.problem(res, 503, "not-executed")
	})
}

func TestClientAnswersAServiceOverAWebSocket(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		ws := w.dial("/v1/rep/upper?concurrency=2")
		answers := make(chan string, 3)
		for _, body := range []string{"a", "b", "c"} {
			go func() {
				res, err := w.try(t.Context(), "POST", "/v1/req/upper", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				text, err := io.ReadAll(res.Body)
				if err != nil {
					t.Error(err)
				}
				answers <- string(text)
			}()
		}
		first, second := w.hear(ws, "request"), w.hear(ws, "request")
		w.say(ws, map[string]string{"id": second.ID, "text": strings.ToUpper(*second.Text)})
		third := w.hear(ws, "request")
		w.say(ws, map[string]string{"id": third.ID, "text": strings.ToUpper(*third.Text)})
		w.say(ws, map[string]string{"id": first.ID, "text": strings.ToUpper(*first.Text)})
		seen := map[string]bool{}
		for range 3 {
			seen[<-answers] = true
		}
		if !seen["A"] || !seen["B"] || !seen["C"] {
			t.Errorf("%v", seen)
		}
		w.say(ws, map[string]string{"id": first.ID, "text": "again"})
		w.hear(ws, "gone")
		ws.CloseNow()
	})
}

func TestRepeatedPushWithItsKeyIsOneMessageAlsoAfterARestart(t *testing.T) {
	inWorld(t, Config{Limits: Limits{Keys: 3}}, func(t *testing.T, w *world) {
		push := func(body, key string) (s sent) {
			t.Helper()
			w.decode(w.ask("POST", "/v1/push/jobs", body, "Idempotency-Key", key), &s)
			return s
		}
		first := push("a", "1")
		if again := push("a", "1"); first.Duplicate || !again.Duplicate || first.Seq != 1 || again.Seq != 1 {
			t.Errorf("%+v, then %+v; want the second one to be a duplicate of the first", first, again)
		}
		w.problem(w.ask("POST", "/v1/push/jobs", "b", "Idempotency-Key", "1"), 422, "key-reused")
		w.text(w.ask("POST", "/v1/push/other", "a", "Idempotency-Key", "1"), 200)
		w.close()
		w.open(Config{Limits: Limits{Keys: 3}})
		if again := push("a", "1"); !again.Duplicate || again.Seq != 1 {
			t.Errorf("%+v after the restart, want it remembered", again)
		}
		if l := w.ledger("push", "jobs"); l.Carried+l.Accepted != 1 {
			t.Errorf("%+v, want one message", l)
		}
		for i, key := range []string{"2", "3", "4"} {
			if s := push("a", key); s.Seq != uint64(i+2) {
				t.Errorf("%+v, want seq %d", s, i+2)
			}
		}
		if push("a", "1").Duplicate {
			t.Error("remembered beyond the bound")
		}
	})
}

func TestRepeatedPublishWithItsKeyIsOneMessage(t *testing.T) {
	inWorld(t, Config{Limits: Limits{Keys: 2}}, func(t *testing.T, w *world) {
		publish := func(body, key string) (s sent) {
			t.Helper()
			w.decode(w.ask("POST", "/v1/pub/news/a", body, "Idempotency-Key", key), &s)
			return s
		}
		first := publish("a", "1")
		if again := publish("a", "1"); first.Duplicate || !again.Duplicate || again.Seq != first.Seq {
			t.Errorf("%+v, then %+v", first, again)
		}
		w.problem(w.ask("POST", "/v1/pub/news/b", "a", "Idempotency-Key", "1"), 422, "key-reused")
		publish("a", "2")
		publish("a", "3")
		if publish("a", "1").Duplicate {
			t.Error("remembered beyond the bound")
		}
	})
}

func TestLeavingGatewayEndsPollsAndWaitsForAcks(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("GET", "/readyz", ""), 200)
		w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		res := w.ask("POST", "/v1/pull/jobs", "")
		w.text(res, 200)
		polled := make(chan *http.Response)
		go func() { polled <- w.ask("POST", "/v1/pull/jobs", "") }()
		synctest.Wait()
		left := make(chan int)
		go func() { left <- w.g.Leave(t.Context()) }()
		w.problem(<-polled, 503, "leaving")
		w.problem(w.ask("GET", "/readyz", ""), 503, "leaving")
		w.text(w.ask("GET", "/livez", ""), 200)
		select {
		case n := <-left:
			t.Fatalf("it left with %d, and did not wait", n)
		default:
		}
		w.text(w.ask("POST", res.Header.Get("Peermesh-Ack"), ""), 200)
		if n := <-left; n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

func TestMemoryNodeServesWithoutADisk(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		n := w.mesh.Node("light", func(c *node.Config) { c.Dir = "" })
		g, err := New(n, Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		old := w.g
		w.client.CloseIdleConnections()
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		w.g, w.lines = g, newLines()
		go g.Serve(w.lines, nil)
		w.client = &http.Client{Transport: &http.Transport{DialContext: w.lines.dial}}
		var s sent
		w.decode(w.ask("POST", "/v1/push/jobs", "a", "Idempotency-Key", "1"), &s)
		if s.Level != "memory" || s.Seq != 1 {
			t.Errorf("%+v", s)
		}
		if w.decode(w.ask("POST", "/v1/push/jobs", "a", "Idempotency-Key", "1"), &s); !s.Duplicate || s.Seq != 1 {
			t.Errorf("%+v, want a duplicate", s)
		}
		w.problem(w.ask("GET", "/v1/dead/jobs", ""), 409, "not-durable")
		w.problem(w.ask("POST", "/v1/pub/news/a?retain=1", "a"), 409, "not-durable")
		if err := g.Carry(); err != nil {
			t.Error(err)
		}
	})
}
