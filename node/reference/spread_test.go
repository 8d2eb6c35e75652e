package reference

import (
	"context"
	"fmt"
	"testing"
)

func TestSpreadIsParsedToTheLastRecordByOneServerEach(t *testing.T) {
	for _, carrier := range carriers {
		for _, servers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s to %d", carrier, servers), func(t *testing.T) {
				m := newMesh(t)
				var at []string
				for range servers {
					at = append(at, listen(t, carrier, m))
				}
				c := dial(t, carrier, m, at...)
				for _, size := range []int{0, 100, MaxBody} {
					for _, count := range []int{0, 1, 5000} {
						if size == MaxBody && count > 1 {
							count = 20
						}
						sent, err := c.Spread(t.Context(), make([]byte, size), upTo(count))
						if err != nil || sent != count {
							t.Errorf("%d messages of %d bytes: sent %d, %v", count, size, sent, err)
						}
					}
				}
			})
		}
	}
}

func TestSpreadOfWhatDoesNotFitIsRefused(t *testing.T) {
	over(t, func(t *testing.T, c *Client) {
		if n, err := c.Spread(t.Context(), make([]byte, MaxBody+1), upTo(1)); err == nil {
			t.Errorf("%d messages of %d bytes were sent", n, MaxBody+1)
		}
	})
}

func TestSpreadEndsWithItsContext(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(string(carrier), func(t *testing.T) {
			m := newMesh(t)
			c := dial(t, carrier, m, listen(t, carrier, m), listen(t, carrier, m))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if _, err := c.Spread(ctx, make([]byte, 1000), func(sent int) int {
				if sent > 1000 {
					cancel()
				}
				return 100
			}); err == nil {
				t.Error("what has no end ended well")
			}
			if sent, err := c.Spread(t.Context(), nil, upTo(10)); err != nil || sent != 10 {
				t.Errorf("the next one: sent %d, %v", sent, err)
			}
		})
	}
}
