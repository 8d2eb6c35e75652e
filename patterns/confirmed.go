package patterns

import "peermesh/socket"

// Confirmed tells which messages their senders will never send again, for those who keep
// ids of what they have handled in a place of their own. It returns what was confirmed since
// the last call, and at the first call how far the streams are that are attached; it does not
// block.
func (p *Pull) Confirmed() []socket.Confirmed { return p.box.Confirmed() }

// Confirmed is Pull.Confirmed.
func (s *Sub) Confirmed() []socket.Confirmed { return s.box.Confirmed() }
