package socket

import "context"

// Unsubscribe asks every publisher that is attached to forget this durable subscription, and
// waits until each has, or ctx ends. Nothing more is handed out: what was not answered is
// nobody's business any more.
func (b *Inbox) Unsubscribe(ctx context.Context) error {
	b.mu.Lock()
	b.draining, b.unsubscribing = true, true
	b.giveBackAll()
	b.kickAll()
	b.mu.Unlock()
	for {
		b.mu.Lock()
		n, ended := len(b.pipes), b.ended
		b.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
