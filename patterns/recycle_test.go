package patterns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
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
