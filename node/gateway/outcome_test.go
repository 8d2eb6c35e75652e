package gateway

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"

	"github.com/coder/websocket"
)

// asks makes a request from another node in the background, with ten minutes for its answer.
func (w *world) asks(req *patterns.Req, body string) <-chan error {
	out := make(chan error, 1)
	go func() {
		ctx, stop := context.WithTimeout(w.t.Context(), 10*time.Minute)
		defer stop()
		_, err := req.Request(ctx, []byte(body))
		out <- err
	}()
	return out
}

// other is a Req of another node.
func (w *world) other(name string) *patterns.Req {
	w.t.Helper()
	req, err := w.mesh.Node("other").Req(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return req
}

// heard holds an outcome, which must come at once, against what is wanted.
func (w *world) heard(what string, outcome <-chan error, want socket.Outcome) {
	w.t.Helper()
	began := time.Now()
	err := <-outcome
	if got := patterns.OutcomeOf(err); got != want || time.Since(began) > time.Minute {
		w.t.Errorf("%s: %v after %v (%v), want %v", what, got, time.Since(began), err, want)
	}
}

func TestServiceSaysWhetherTheRequestWasExecuted(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		req := w.other("upper")
		for outcome, want := range map[string]socket.Outcome{"": wire.Error, "?outcome=error": wire.Error, "?outcome=failed": wire.Failed,
			"?outcome=indeterminate": wire.Indeterminate} {
			asked := w.asks(req, "a")
			res := w.ask("POST", "/v1/rep/upper", "")
			w.text(res, 200)
			w.problem(w.ask("POST", res.Header.Get("Peermesh-Reply")+"/error?outcome=ok", "no"), 400, "invalid")
			w.text(w.ask("POST", res.Header.Get("Peermesh-Reply")+"/error"+outcome, "no"), 204)
			w.heard("by POST "+outcome, asked, want)
		}
		ws := w.dial("/v1/rep/upper")
		for outcome, want := range map[string]socket.Outcome{"": wire.Error, "failed": wire.Failed, "indeterminate": wire.Indeterminate} {
			asked := w.asks(req, "a")
			w.say(ws, map[string]string{"id": w.hear(ws, "request").ID, "error": "no", "outcome": outcome})
			w.heard("by WebSocket "+outcome, asked, want)
		}
		ws.CloseNow()
	})
}

func TestRequestOfAWebSocketThatEndsIsIndeterminateAtOnce(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		asked := w.asks(w.other("upper"), "a")
		ws := w.dial("/v1/rep/upper")
		w.hear(ws, "request")
		ws.CloseNow()
		w.heard("its client is gone", asked, wire.Indeterminate)
	})
}

func TestRequestBeyondTheLeasesWasNotExecuted(t *testing.T) {
	inWorld(t, Config{Limits: Limits{Leases: 1}}, func(t *testing.T, w *world) {
		req := w.other("upper")
		first := w.asks(req, "a")
		ws := w.dial("/v1/rep/upper?concurrency=2")
		r := w.hear(ws, "request")
		w.heard("the second one", w.asks(req, "b"), wire.Failed)
		w.say(ws, map[string]string{"id": r.ID, "text": "A"})
		w.heard("the first one", first, wire.OK)
		ws.CloseNow()
	})
}

// It was begun for a client that had gone when it came.
func TestRequestThatNoClientHasSeenGoesElsewhereWhenTheGatewayLeaves(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		req := w.other("upper")
		room, rep, err := w.g.repFor("upper")
		if err != nil {
			t.Fatal(err)
		}
		asked := w.asks(req, "a")
		began := make(chan struct{})
		room.wait()
		go func() {
			_ = rep.ServeRequests(w.t.Context(), func(_ context.Context, m *socket.Message) ([]byte, error) { // until it closes
				close(began)
				return w.g.ask(room, m)
			})
		}()
		<-began
		room.busy()
		room.exit()
		synctest.Wait()
		elsewhere, err := w.mesh.Node("elsewhere").Rep("upper")
		if err != nil {
			t.Fatal(err)
		}
		go elsewhere.ServeRequests(t.Context(), func(context.Context, *socket.Message) ([]byte, error) { return nil, nil })
		synctest.Wait()
		if n := w.g.Leave(t.Context()); n != 0 {
			t.Errorf("%d are in the hands of clients, want none", n)
		}
		w.heard("by another replier", asked, wire.OK)
	})
}

func TestMessagesThatNoClientHasSeenUseNothingUp(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/push/jobs", "a"), 200)
		ws := w.dial("/v1/pull/jobs?lease=600")
		w.hear(ws, "open")
		w.hear(ws, "message")
		room, err := w.g.pullFrom("jobs")
		if err != nil {
			t.Fatal(err)
		}
		defer room.exit()
		w.g.leave(errLeaving) // the stream is ended by the gateway, in whose hands the message was well
		if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Error(err)
		}
		synctest.Wait()
		if s := room.sock.(*patterns.Pull).Stats(); s.Released != 1 || s.Nacked != 0 {
			t.Errorf("%+v, want one message released", s)
		}
	})
}

// Whichever of its workers begins the first one.
func TestClientThatWorksOnARequestGetsTheNext(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		req := w.other("upper")
		for i := range 20 {
			ws := w.dial("/v1/rep/upper?concurrency=16")
			var asked []<-chan error
			var ids []string
			for range 16 {
				synctest.Wait()
				asked = append(asked, w.asks(req, "a"))
				ids = append(ids, w.hear(ws, "request").ID)
			}
			for _, id := range ids {
				w.say(ws, map[string]string{"id": id, "text": "A"})
			}
			for n, a := range asked {
				w.heard(fmt.Sprint(i, ".", n), a, wire.OK)
			}
			ws.CloseNow()
			synctest.Wait()
			room, _, err := w.g.repFor("upper")
			if err != nil {
				t.Fatal(err)
			}
			if n := len(room.workers); n > 0 {
				t.Errorf("%d workers wait, and no client", n)
			}
			room.exit()
		}
	})
}
