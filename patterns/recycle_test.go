package patterns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"peermesh/socket"
)

// TestABodyIsWhatWasSentHoweverOftenItIsDelivered has memory of what is done written anew beside messages that are given back,
// and held for long.
func TestABodyIsWhatWasSentHoweverOftenItIsDelivered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const total = 30_000
		s, rs, _ := line(t, 2, []Option{Queue(1<<20, 1<<20), MaxDeliver(1000)}, nil)
		body := func(i uint64) []byte {
			n := 4 + int(i%40)
			if i%50 < 3 {
				n *= 200 // most of these have a block of their own
			}
			return bytes.Repeat(binary.BigEndian.AppendUint64(nil, i), n)
		}
		held := make(chan *socket.Message, 10)
		let := func() bool { // one go
			select {
			case m := <-held:
				m.Ack()
				return true
			default:
				return false
			}
		}
		for n, r := range rs {
			random := rand.New(rand.NewPCG(uint64(n), 1))
			go func() {
				for {
					m, err := r.Recv(t.Context())
					if err != nil {
						return
					}
					if i := binary.BigEndian.Uint64(m.Body); !bytes.Equal(m.Body, body(i)) {
						t.Errorf("message %d has another's body", i)
					}
					switch p := random.IntN(1000); {
					case p < 50:
						m.Nack(errors.New("once more"))
						continue
					case p < 52:
						select {
						case held <- m:
							continue
						default:
						}
					case p < 54:
						let()
					}
					m.Ack()
				}
			}()
		}
		for i := range uint64(total) {
			if err := s.Send(long(t), body(i)); err != nil {
				t.Fatal(err)
			}
		}
		for err := errors.New("not yet"); err != nil; {
			for let() {
			}
			err = s.Flush(within(t, time.Second))
		}
	})
}

// TestARequestIsWhatWasAskedHoweverOftenItIsDelivered is the same for requests, some of which are given back, and some slow.
func TestARequestIsWhatWasAskedHoweverOftenItIsDelivered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const callers, each = 200, 100
		q, rs, _ := service(t, 2, []Option{Queue(1<<20, 1<<20)}, nil)
		body := func(i uint64) []byte {
			return bytes.Repeat(binary.BigEndian.AppendUint64(nil, i), 4+int(i%40))
		}
		for _, r := range rs {
			serving(t, r, func(_ context.Context, m *socket.Message) ([]byte, error) {
				switch p := rand.IntN(1000); {
				case p < 50:
					_ = m.Release()
				case p < 60:
					time.Sleep(time.Duration(p) * time.Millisecond)
				}
				if i := binary.BigEndian.Uint64(m.Body); !bytes.Equal(m.Body, body(i)) {
					t.Errorf("request %d has another's body", i)
				}
				return m.Body, nil
			})
		}
		var asking sync.WaitGroup
		for c := range uint64(callers) {
			asking.Go(func() {
				for n := range uint64(each) {
					asked := body(c*each + n)
					switch got, err := q.Request(t.Context(), asked); {
					case err != nil:
						t.Errorf("request %d: %v", c*each+n, err)
					case !bytes.Equal(got, asked):
						t.Errorf("request %d got another's answer", c*each+n)
					}
				}
			})
		}
		asking.Wait()
	})
}
