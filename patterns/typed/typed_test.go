package typed_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/patterns/typed"
	"peermesh/socket"
)

type thumbnail struct {
	Image string
	Width int
}

// reading is a reading of a thermometer; tenths is a codec of its own for it.
type reading float64

var errOddSize = errors.New("not two bytes")

type tenths struct{}

func (tenths) Append(dst []byte, v reading) ([]byte, error) {
	if v < -3000 || v > 3000 {
		return dst, fmt.Errorf("%v is no temperature", float64(v))
	}
	return binary.BigEndian.AppendUint16(dst, uint16(int16(v*10))), nil
}

func (tenths) Decode(body []byte) (reading, error) {
	if len(body) != 2 {
		return 0, errOddSize
	}
	return reading(int16(binary.BigEndian.Uint16(body))) / 10, nil
}

func TestPullGetsTheValuesThatPushSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		push, pull, leave := queue(nil)
		defer leave()
		in := typed.Push[thumbnail]{Socket: push}
		out := typed.Pull[thumbnail]{Socket: pull}
		want := []thumbnail{{"cat.png", 200}, {"dog.png", 100}, {"gnu.png", 50}}

		must(in.Send(t.Context(), want[0]))
		seq, err := in.SendMessage(t.Context(), want[1], socket.Message{Key: "dog", Body: []byte("not this")})
		if err != nil || seq != 2 {
			t.Fatalf("SendMessage: seq %d, %v; want 2", seq, err)
		}
		receipt, err := in.Post(t.Context(), want[2], socket.Message{Headers: socket.Headers{"by": "me"}})
		must(err)

		first, err := out.Recv(t.Context())
		must(err)
		must(first.Ack())
		got := []thumbnail{first.Value}
		for m := range out.Messages(t.Context()) {
			got = append(got, m.Value)
			must(m.Ack())
			switch m.Seq() {
			case 2:
				if m.Key != "dog" {
					t.Errorf("key %q, want dog", m.Key)
				}
				continue
			case 3:
				if m.Headers["by"] != "me" {
					t.Errorf("headers %v, want by=me", m.Headers)
				}
			}
			break
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if fate, err := receipt.Wait(t.Context()); err != nil || fate.State != "done" {
			t.Errorf("fate %+v, %v; want done", fate, err)
		}
	})
}

func TestSubGetsTheValuesThatPubPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub, sub, leave := channel(nil, patterns.Topics("*.temp"))
		defer leave()
		in := typed.Pub[reading]{Socket: pub, Codec: tenths{}}
		out := typed.Sub[reading]{Socket: sub, Codec: tenths{}}

		must(in.Publish(t.Context(), "basel.temp", 21.5))
		must(in.Publish(t.Context(), "basel.wind", 3))
		_, err := in.PublishMessage(t.Context(), -4.5, socket.Message{Topic: "davos.temp", Headers: socket.Headers{"by": "me"}})
		must(err)

		first, err := out.Recv(t.Context())
		must(err)
		if first.Value != 21.5 || first.Topic != "basel.temp" || len(first.Body) != 2 {
			t.Errorf("got %v of %s in %d bytes, want 21.5 of basel.temp in 2", first.Value, first.Topic, len(first.Body))
		}
		must(first.Ack())
		for m := range out.Messages(t.Context()) {
			if m.Value != -4.5 || m.Topic != "davos.temp" || m.Headers["by"] != "me" {
				t.Errorf("got %v of %s with %v, want -4.5 of davos.temp with by=me", m.Value, m.Topic, m.Headers)
			}
			break // the loop acknowledges
		}
		must(pub.Flush(t.Context()))
		if l := pub.Stats().Ledger; l.Done != 2 {
			t.Errorf("ledger %+v, want 2 done", l)
		}
	})
}

func TestAnswerComesBackToWhoAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req, rep, leave := service()
		serving := answer(rep, func(_ context.Context, m typed.Message[thumbnail]) (string, error) {
			if m.Value.Width == 0 {
				return "", errors.New("no width")
			}
			return fmt.Sprintf("%s at %d", m.Value.Image, m.Value.Width), nil
		})
		defer serving.Wait()
		defer leave()
		resize := typed.Req[thumbnail, string]{Socket: req}

		got, err := resize.Request(t.Context(), thumbnail{"cat.png", 200})
		if err != nil || got != "cat.png at 200" {
			t.Errorf("got %q, %v", got, err)
		}
		_, err = resize.RequestMessage(t.Context(), thumbnail{Image: "cat.png"}, socket.Message{Body: []byte("not this")})
		var remote *patterns.RemoteError
		if !errors.As(err, &remote) || remote.Message != "no width" {
			t.Errorf("got %v, want the handler's error", err)
		}
	})
}

// answer serves thumbnails in the background until the socket closes.
func answer[A any](rep *patterns.Rep, handler func(context.Context, typed.Message[thumbnail]) (A, error)) *sync.WaitGroup {
	var serving sync.WaitGroup
	serving.Go(func() {
		err := typed.Rep[thumbnail, A]{Socket: rep}.ServeRequests(context.Background(), handler)
		if !errors.Is(err, socket.ErrClosed) {
			panic(err)
		}
	})
	return &serving
}

// fates counts what a receiving socket said and its user was told.
type fates struct {
	mu           sync.Mutex
	done, nacked int
	undecodable  []error
}

func (f *fates) options() []patterns.Option {
	return []patterns.Option{
		patterns.OnDone(func(*socket.Message) { f.mu.Lock(); defer f.mu.Unlock(); f.done++ }),
		patterns.OnNack(func(*socket.Message) { f.mu.Lock(); defer f.mu.Unlock(); f.nacked++ }),
	}
}

func (f *fates) note(_ *socket.Message, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.undecodable = append(f.undecodable, err)
}

// check holds what happened to one bad body delivered twice and one good one.
func (f *fates) check(t *testing.T, value reading, l patterns.Ledger, last string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if value != 21.5 {
		t.Errorf("got %v, want the good value 21.5", value)
	}
	if f.done != 1 || f.nacked != 2 {
		t.Errorf("%d acknowledged and %d given back, want 1 and 2", f.done, f.nacked)
	}
	if len(f.undecodable) != 2 || !errors.Is(f.undecodable[0], errOddSize) {
		t.Errorf("told of %v, want %v twice", f.undecodable, errOddSize)
	}
	if l.Done != 1 || l.Dead != 1 || !l.Balanced() {
		t.Errorf("sender's ledger %+v, want 1 done and 1 dead", l)
	}
	if !strings.Contains(last, errOddSize.Error()) {
		t.Errorf("the dead message's last error is %q, want the decoder's %q", last, errOddSize)
	}
}

// died tells the last error of a message that is given up.
func died(words chan<- string) patterns.Option {
	return patterns.OnSettled(func(s patterns.Settled) {
		if s.State == "dead" {
			words <- s.Text
		}
	})
}

func TestPullGivesUndecodableBackAndNeverAcksIt(t *testing.T) {
	for name, take := range map[string]func(context.Context, typed.Pull[reading]) reading{
		"Recv": func(ctx context.Context, p typed.Pull[reading]) reading {
			m, err := p.Recv(ctx)
			must(err)
			must(m.Ack())
			return m.Value
		},
		"Messages": func(ctx context.Context, p typed.Pull[reading]) reading {
			for m := range p.Messages(ctx) {
				must(m.Ack())
				return m.Value
			}
			return 0
		},
		"Handle": func(ctx context.Context, p typed.Pull[reading]) (v reading) {
			ctx, cancel := context.WithCancel(ctx)
			_ = p.Handle(ctx, 1, func(_ context.Context, m typed.Message[reading]) error {
				v = m.Value
				cancel()
				return nil
			})
			return v
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fates
				words, last := make(chan string, 1), ""
				push, pull, leave := queue([]patterns.Option{patterns.MaxDeliver(2), died(words)}, f.options()...)
				defer leave()
				must(push.Send(t.Context(), []byte("garbage")))
				go func() {
					last = <-words // only then, or the good one would be taken first
					must(typed.Push[reading]{push, tenths{}}.Send(t.Context(), 21.5))
				}()
				v := take(t.Context(), typed.Pull[reading]{Socket: pull, Codec: tenths{}, Undecodable: f.note})
				must(push.Flush(t.Context()))
				f.check(t, v, push.Stats().Ledger, last)
			})
		})
	}
}

func TestSubGivesUndecodableBackAndNeverAcksIt(t *testing.T) {
	for name, take := range map[string]func(context.Context, typed.Sub[reading]) reading{
		"Recv": func(ctx context.Context, s typed.Sub[reading]) reading {
			m, err := s.Recv(ctx)
			must(err)
			must(m.Ack())
			return m.Value
		},
		"Messages": func(ctx context.Context, s typed.Sub[reading]) reading {
			for m := range s.Messages(ctx) {
				return m.Value
			}
			return 0
		},
		"Handle": func(ctx context.Context, s typed.Sub[reading]) (v reading) {
			ctx, cancel := context.WithCancel(ctx)
			_ = s.Handle(ctx, 1, func(_ context.Context, m typed.Message[reading]) error {
				v = m.Value
				cancel()
				return nil
			})
			return v
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fates
				words, last := make(chan string, 1), ""
				pub, sub, leave := channel([]patterns.Option{patterns.MaxDeliver(2), died(words)}, f.options()...)
				defer leave()
				must(pub.Publish(t.Context(), "basel.temp", []byte("garbage")))
				go func() {
					last = <-words
					must(typed.Pub[reading]{pub, tenths{}}.Publish(t.Context(), "basel.temp", 21.5))
				}()
				v := take(t.Context(), typed.Sub[reading]{Socket: sub, Codec: tenths{}, Undecodable: f.note})
				must(pub.Flush(t.Context()))
				f.check(t, v, pub.Stats().Ledger, last)
			})
		})
	}
}

func TestNobodyNeedsToListenForUndecodables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		push, pull, leave := queue([]patterns.Option{patterns.MaxDeliver(1)})
		defer leave()
		must(push.Send(t.Context(), []byte("{")))
		must(push.Send(t.Context(), []byte(`{"Image":"cat.png"}`)))
		m, err := typed.Pull[thumbnail]{Socket: pull}.Recv(t.Context())
		if err != nil || m.Value.Image != "cat.png" {
			t.Errorf("got %+v, %v; want cat.png", m.Value, err)
		}
	})
}

func TestValueThatDoesNotEncodeIsNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		push, _, leavePush := queue(nil)
		defer leavePush()
		pub, _, leavePub := channel(nil)
		defer leavePub()
		req, _, leaveReq := service()
		defer leaveReq()
		const hot = reading(1e6)

		_, post := typed.Push[reading]{push, tenths{}}.Post(t.Context(), hot, socket.Message{})
		_, request := typed.Req[reading, string]{Socket: req, Question: tenths{}}.Request(t.Context(), hot)
		for verb, err := range map[string]error{
			"Send":    typed.Push[reading]{push, tenths{}}.Send(t.Context(), hot),
			"Post":    post,
			"Publish": typed.Pub[reading]{pub, tenths{}}.Publish(t.Context(), "x", hot),
			"Request": request,
		} {
			if err == nil || !strings.Contains(err.Error(), "is no temperature") {
				t.Errorf("%s: %v, want the codec's error", verb, err)
			}
		}
		if !errors.Is(request, patterns.ErrNotExecuted) {
			t.Errorf("Request: %v, want ErrNotExecuted", request)
		}
		for name, l := range map[string]patterns.Ledger{"push": push.Stats().Ledger, "pub": pub.Stats().Ledger, "req": req.Stats().Ledger} {
			if l.Accepted != 0 {
				t.Errorf("%s accepted %d, want none", name, l.Accepted)
			}
		}
	})
}

func TestQuestionThatDoesNotDecodeNeverReachesTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req, rep, leave := service()
		serving := answer(rep, func(_ context.Context, m typed.Message[thumbnail]) (string, error) {
			t.Errorf("handler got %+v", m.Value)
			return "", nil
		})
		defer serving.Wait()
		defer leave()
		_, err := req.Request(t.Context(), []byte("{"))
		if got := patterns.OutcomeOf(err); got != wire.Error || !strings.Contains(err.Error(), "decode typed_test.thumbnail") {
			t.Errorf("outcome %v: %v; want error: decode", got, err)
		}
	})
}

func TestAnswerThatDoesNotDecodeCountsAsExecuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req, rep, leave := service()
		serving := answer(rep, func(context.Context, typed.Message[thumbnail]) (string, error) { return "not two bytes", nil })
		defer serving.Wait()
		defer leave()
		_, err := typed.Req[thumbnail, reading]{Socket: req, Answer: tenths{}}.Request(t.Context(), thumbnail{})
		var unread *typed.AnswerError
		if !errors.As(err, &unread) || unread.By != env().Local.Node || !errors.Is(err, errOddSize) {
			t.Errorf("got %v, want an AnswerError by the replier: %v", err, errOddSize)
		}
		if got := patterns.OutcomeOf(err); got != wire.Error {
			t.Errorf("outcome %v, want error: it was executed", got)
		}
	})
}

func TestAnswerThatDoesNotEncodeIsTheRepliersError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req, rep, leave := service()
		serving := answer(rep, func(context.Context, typed.Message[thumbnail]) (func(), error) { return func() {}, nil })
		defer serving.Wait()
		defer leave()
		_, err := typed.Req[thumbnail, string]{Socket: req}.Request(t.Context(), thumbnail{})
		if got := patterns.OutcomeOf(err); got != wire.Error || !strings.Contains(err.Error(), "encode func()") {
			t.Errorf("outcome %v: %v; want error: encode func()", got, err)
		}
	})
}

func TestSendersDoNotShareTheMemoryOfTheirBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		push, pull, leave := queue(nil)
		defer leave()
		const senders, each = 8, 50
		var sending sync.WaitGroup
		for s := range senders {
			sending.Go(func() {
				for i := range each {
					must(typed.Push[thumbnail]{Socket: push}.Send(t.Context(), thumbnail{strings.Repeat(fmt.Sprint(s), 100), i}))
				}
			})
		}
		next := map[string]int{}
		for range senders * each {
			m, err := typed.Pull[thumbnail]{Socket: pull}.Recv(t.Context())
			must(err)
			if m.Value.Width != next[m.Value.Image] || strings.Trim(m.Value.Image, m.Value.Image[:1]) != "" {
				t.Fatalf("got %+v, want number %d of its sender", m.Value, next[m.Value.Image])
			}
			next[m.Value.Image]++
			must(m.Ack())
		}
		sending.Wait()
	})
}

func TestReceivingEndsWithItsContextAndItsSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pull, leave := queue(nil)
		out := typed.Pull[reading]{Socket: pull}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := out.Recv(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Recv after the context's end: %v", err)
		}
		leave()
		if _, err := out.Recv(t.Context()); !errors.Is(err, socket.ErrClosed) {
			t.Errorf("Recv after Close: %v", err)
		}
		for m := range out.Messages(t.Context()) {
			t.Errorf("message %v after Close", m.Value)
		}
	})
}
