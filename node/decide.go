package node

import "peermesh/internal/identity"

// standing is what is known of a link when it is decided which one stays.
type standing struct {
	nonce       [16]byte
	incarnation uint64
	number      uint64
}

// verdict of judge.
type verdict struct {
	keep bool          // the newcomer becomes the link
	code identity.Code // why not
}

// judge decides at the node with the lower id between the link that is up (nil:
// none) and a newcomer whose HELLO was read. Only this node decides, and one link
// after the other, so that both ends always agree.
//
// Between the same two processes the newer number wins: who dials knows the numbers
// so far and takes the next one, so a higher number is a redial by a side that has
// lost the old link, whatever the other believes. Of two first dials that crossed,
// the one heard first stays.
func judge(up *standing, newcomer standing) verdict {
	switch {
	case up == nil:
		return verdict{keep: true}
	case up.nonce == newcomer.nonce:
		if newcomer.number > up.number {
			return verdict{keep: true}
		}
		return verdict{code: identity.CodeSuperseded}
	case newcomer.incarnation > up.incarnation:
		return verdict{keep: true} // its process was restarted
	case newcomer.incarnation == up.incarnation:
		return verdict{code: identity.CodeDuplicate}
	}
	return verdict{code: identity.CodeIncarnation}
}
