package node

import "peermesh/internal/enroll"

// LinkTo tells which link to a node is up: its number, and whether this node dialled.
func (n *Node) LinkTo(id ID) (number uint64, dialed, up bool) {
	l := n.linkTo(id)
	if l == nil {
		return 0, false, false
	}
	return l.number, l.dialed, true
}

// TokenAt is a token that leads elsewhere.
func TokenAt(text string, addrs []string) string {
	t, err := enroll.ParseToken(text)
	if err != nil {
		panic(err)
	}
	t.Addrs = addrs
	return t.Text()
}
