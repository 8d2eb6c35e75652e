package node

import (
	"fmt"
	"net"
	"time"
)

// Path is the way to a linked node as QUIC has measured it since the link is up.
type Path struct {
	Peer   Peer
	Local  net.Addr
	Dialed bool // by this node; otherwise by the other one

	Least, Smoothed, Latest, Deviation time.Duration // of round trips

	Window                   uint64 // bytes that may be on their way unacknowledged
	Sent, Lost, Received     uint64 // packets
	SentBytes, ReceivedBytes uint64
}

// Path describes the link to a peer. It does not block.
func (n *Node) Path(id ID) (Path, error) {
	l := n.linkTo(id)
	if l == nil {
		return Path{}, fmt.Errorf("node: no link to %v", id)
	}
	s := l.conn.ConnectionStats()
	return Path{Peer: l.describe(), Local: l.conn.LocalAddr(), Dialed: l.dialed, Least: s.MinRTT, Smoothed: s.SmoothedRTT, Latest: s.LatestRTT,
		Deviation: s.MeanDeviation, Window: s.CongestionWindow, Sent: s.PacketsSent, Lost: s.PacketsLost, Received: s.PacketsReceived,
		SentBytes: s.BytesSent, ReceivedBytes: s.BytesReceived}, nil
}
