package patterns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

// verdicts are errors of a handler, and the outcome that each of them is.
var verdicts = []struct {
	err  error
	want socket.Outcome
}{
	{errors.New("no"), wire.Error},
	{ErrIndeterminate, wire.Indeterminate},
	{fmt.Errorf("the printer is gone: %w", ErrIndeterminate), wire.Indeterminate},
	{NotExecuted(errors.New("full")), wire.Failed},
	{NotExecuted(nil), wire.Failed},
	{fmt.Errorf("shop: %w", NotExecuted(errors.New("full"))), wire.Failed},
	{errors.Join(NotExecuted(errors.New("full")), ErrIndeterminate), wire.Indeterminate},
	{fmt.Errorf("asked another first: %w", ErrNotExecuted), wire.Error}, // of a request of the handler's own
	{NotExecuted(errors.New(strings.Repeat("long ", 1<<21))), wire.Failed},
	{fmt.Errorf("%s: %w", strings.Repeat("long ", 1<<21), ErrIndeterminate), wire.Indeterminate},
}

func TestAHandlerSaysWhetherTheRequestWasExecuted(t *testing.T) {
	for _, level := range []Execution{Idempotent, Once} {
		bubble(t, func(t *testing.T) {
			q, rs, _ := service(t, 1, []Option{Executed(level)}, nil)
			serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) { return nil, verdicts[m.Body[0]].err })
			for i, v := range verdicts {
				_, err := q.Request(long(t), []byte{byte(i)})
				outcome(t, fmt.Sprintf("level %v: %.40v", level, v.err), err, v.want)
				if text := fmt.Sprintf("%.20s", v.err); !strings.Contains(err.Error(), text) && len(v.err.Error()) < 1000 {
					t.Errorf("level %v: %.40v comes as %.80v", level, v.err, err)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("level %v: %.80v, but there was time", level, err)
				}
			}
			l := balanced(t, q)
			equal(t, "owed", l.Queued+l.Leased, 0)
			equal(t, "indeterminate", l.Dropped["indeterminate"], 4)
		})
	}
}

// What the handler said is on disk before it is sent, and the next life says the same.
func TestARepliersNextLifeSaysWhatItsHandlerDidNotKnow(t *testing.T) {
	for i, v := range verdicts[:6] {
		bubble(t, func(t *testing.T) {
			var ran executions
			handler := func(l *life) ReplyFunc {
				return func(_ context.Context, m *socket.Message) ([]byte, error) {
					if l.dead() {
						return nil, errDead
					}
					ran.count(m.Body)
					return nil, v.err
				}
			}
			a, b := newNode(t, 'a'), newNode(t, 'b')
			q := a.req(Executed(OnceDurable))
			l := born(b, 1, newDisk(), a, q, handler)
			ready(t, q, 1)
			l.disk.hold()
			got := asking(long(t), q, "x")
			synctest.Wait()
			l.disk.land(1) // STARTED
			synctest.Wait()
			next := l.kill(1) // and its reply, of which nobody hears
			time.Sleep(time.Minute)
			l2 := born(b, 2, next, a, q, handler)
			r := <-got
			outcome(t, fmt.Sprint(i, ": ", v.err), r.err, v.want)
			if r.err == nil || !strings.Contains(r.err.Error(), fmt.Sprintf("%.20s", v.err)) {
				t.Errorf("%v comes as %v", v.err, r.err)
			}
			equal(t, "executed", ran.of("x"), 1)
			time.Sleep(time.Minute)
			l2.link.cut()
			time.Sleep(time.Minute)
			same(t, "on disk at the end", l2.disk.requests(), map[uint64]byte{})
			balanced(t, q)
		})
	}
}

func TestAReleasedRequestIsExecutedElsewhereAtAllLevels(t *testing.T) {
	for _, level := range []Execution{Idempotent, Once, OnceDurable} {
		bubble(t, func(t *testing.T) {
			var ran, released executions
			a, b, c := newNode(t, 'a'), newNode(t, 'b'), newNode(t, 'c')
			q := a.req(Executed(level))
			l := born(b, 1, newDisk(), a, q, func(l *life) ReplyFunc {
				return func(_ context.Context, m *socket.Message) ([]byte, error) {
					released.count(m.Body)
					l.rep.Pause()
					return nil, m.Release()
				}
			})
			ready(t, q, 1)
			got := asking(long(t), q, "x")
			time.Sleep(time.Second)
			born(c, 1, newDisk(), a, q, echo(&ran))
			r := <-got
			outcome(t, fmt.Sprint("level ", level), r.err, wire.OK)
			equal(t, "released", released.of("x"), 1)
			equal(t, "executed", ran.of("x"), 1)
			equal(t, "released", l.rep.Stats().Released, 1)
			_, err := q.Request(long(t), []byte("y"))
			outcome(t, "the next one", err, wire.OK)
			l.link.cut()
			time.Sleep(time.Minute)
			same(t, "on disk at the end", l.disk.requests(), map[uint64]byte{})
			balanced(t, q)
		})
	}
}

// A released request that nobody takes was certainly not executed.
func TestAReleasedRequestThatNobodyTakesWasNotExecuted(t *testing.T) {
	for _, level := range []Execution{Idempotent, Once} {
		bubble(t, func(t *testing.T) {
			q, rs, _ := service(t, 1, []Option{Executed(level)}, nil)
			serving(t, rs[0], func(_ context.Context, m *socket.Message) ([]byte, error) {
				rs[0].Pause()
				return nil, m.Release()
			})
			_, err := q.Request(within(t, 5*time.Second), nil)
			outcome(t, fmt.Sprint("level ", level), err, wire.Failed)
			matches(t, "the request", err, context.DeadlineExceeded)
			equal(t, "owed", balanced(t, q).Queued, 0)
		})
	}
}
