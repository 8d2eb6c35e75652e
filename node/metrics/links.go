package metrics

import (
	"slices"

	"peermesh/node"
)

var (
	peers         = gauge("peers", "Nodes that are linked.")
	linkRTT       = extreme("link_round_trip_seconds", "Round trip of the last heartbeat, through both processes; 0 until one has come back.", "peer_id", "peer")
	linkSmoothed  = extreme("link_smoothed_round_trip_seconds", "Smoothed round trip of packets (RFC 9002, section 5.3).", "peer_id", "peer")
	linkWindow    = gauge("link_congestion_window_bytes", "Bytes that may be on their way unacknowledged.", "peer_id", "peer")
	linkSent      = counter("link_sent_packets_total", "Packets sent, those that were lost included.", "peer_id", "peer")
	linkLost      = shakyCounter("link_lost_packets_total", "Packets sent that were declared lost; some of them may have come late.", "peer_id", "peer")
	linkReceived  = counter("link_received_packets_total", "Packets received.", "peer_id", "peer")
	linkSentBytes = counter("link_sent_bytes_total", "Bytes sent in packets, without the headers of UDP and below.", "peer_id", "peer")
	linkBytes     = counter("link_received_bytes_total", "Bytes received in packets, without the headers of UDP and below.", "peer_id", "peer")
)

// links reads the links to linked nodes.
func (m *Metrics) links(s *sheet) {
	all := m.node.Peers()
	slices.SortFunc(all, func(a, b node.Peer) int { return a.Since.Compare(b.Since) })
	var present []string
	for _, p := range all {
		present = append(present, p.ID.String())
	}
	m.peers.settle(present)
	s.add(peers, float64(len(all)))
	for _, p := range all {
		if path, err := m.node.Path(p.ID); err == nil { // otherwise it has gone meanwhile
			m.link(s, path)
		}
	}
}

func (m *Metrics) link(s *sheet, p node.Path) {
	id, name := p.Peer.ID.String(), p.Peer.Name
	source := id + separator + p.Peer.Since.String() // a new link counts from 0
	fold := !m.peers.has(id)
	if fold {
		id, name = other, other
	}
	add := func(f *figure, v float64) { s.addFrom(source, fold, f, v, id, name) }
	add(linkRTT, p.Peer.RTT.Seconds())
	add(linkSmoothed, p.Smoothed.Seconds())
	add(linkWindow, float64(p.Window))
	add(linkSent, float64(p.Sent))
	add(linkLost, float64(p.Lost))
	add(linkReceived, float64(p.Received))
	add(linkSentBytes, float64(p.SentBytes))
	add(linkBytes, float64(p.ReceivedBytes))
}
