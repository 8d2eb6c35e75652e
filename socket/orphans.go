package socket

import (
	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

// LetGo gives back what has not been begun of streams without a pipe, before their leases are over, and of those whose
// sender may not deliver here any more. At level best effort, where nothing can be given back, what has come stays. It
// does not block.
func (b *Inbox) LetGo(denied func(sender identity.ID) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, st := range b.streams {
		if st.level == BestEffort || st.cur != nil && !denied(key.node) {
			continue
		}
		for _, m := range b.unbegun(st, all) {
			b.giveBack(m, wire.NackReturned)
		}
	}
}
