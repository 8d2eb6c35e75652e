package metrics

// Gateway is what clients of an HTTP gateway have under way: the figures of gateway.Stats.
type Gateway struct {
	Requests, Streams int64
	Leases            int
	Bodies            int64 // bytes
}

// Endpoint is what a bridge to ZeroMQ has done at one endpoint: the figures of zmtp.Stats.
type Endpoint struct {
	Type, Name string
	Addr       string // tells endpoints of one type and name apart

	Peers                     int
	Accepted, Refused, Lost   uint64 // connections
	Received, Sent, Confirmed uint64 // messages
	Waiting, Owed, Incoming   int
	Dropped                   map[string]uint64 // by reason, of which there are few
	Stalled                   uint64
	Stopped                   bool
}

var (
	gatewayRequests = gauge("gateway_requests", "Requests of the gateway's clients under way, those that wait for messages included.")
	gatewayStreams  = gauge("gateway_streams", "Server-sent events and WebSockets of the gateway's clients.")
	gatewayLeases   = gauge("gateway_leases", "Messages and requests in the hands of the gateway's clients.")
	gatewayBodies   = gauge("gateway_body_bytes", "Bytes of the bodies that the gateway is receiving or sending.")

	zeromqPeers      = gauge("zeromq_peers", "ZeroMQ programs that are connected.", "type", "name")
	zeromqHandshakes = counter("zeromq_handshakes_total", "Handshakes with ZeroMQ programs, by how they ended: accepted or refused.", "type", "name", "outcome")
	zeromqLost       = counter("zeromq_lost_connections_total", "Connections of ZeroMQ programs that have ended.", "type", "name")
	zeromqReceived   = counter("zeromq_received_messages_total", "Messages that have come from ZeroMQ programs.", "type", "name")
	zeromqSent       = counter("zeromq_sent_messages_total", "Messages that were written to ZeroMQ programs.", "type", "name")
	zeromqConfirmed  = counter("zeromq_confirmed_messages_total", "Of those that were sent: read by the program's library or, where it does not tell, written.", "type", "name")
	zeromqPending    = gauge("zeromq_pending_messages", "Messages at an endpoint: waiting for a program, owed by one that was sent them, or incoming and not yet in the mesh.", "type", "name", "state")
	zeromqDropped    = counter("zeromq_dropped_messages_total", "Messages that an endpoint has dropped, by reason; docs/ZEROMQ.md explains them.", "type", "name", "reason")
	zeromqStalls     = counter("zeromq_stalls_total", "Times that the mesh had no room on its disk, and ZeroMQ programs had to wait.", "type", "name")
	zeromqStopped    = gauge("zeromq_stopped", "Endpoints that have stopped because of an error.", "type", "name")
)

// around shows what the program around the node has told New of.
func (m *Metrics) around(s *sheet) {
	if m.config.Gateway != nil {
		g := m.config.Gateway()
		s.add(gatewayRequests, float64(g.Requests))
		s.add(gatewayStreams, float64(g.Streams))
		s.add(gatewayLeases, float64(g.Leases))
		s.add(gatewayBodies, float64(g.Bodies))
	}
	if m.config.Endpoints == nil {
		return
	}
	all := m.config.Endpoints()
	most := bound(m.config.MaxNames, 200)
	for i, e := range all {
		p := put{sheet: s, source: e.Addr, kind: e.Type, name: e.Name}
		if p.fold = i >= most; p.fold {
			p.name = other
		}
		p.endpoint(e)
	}
	s.add(folded, float64(max(0, len(all)-most)), "endpoints")
}

func (p put) endpoint(e Endpoint) {
	p.add(zeromqPeers, float64(e.Peers))
	p.count(zeromqHandshakes, e.Accepted, "accepted")
	p.count(zeromqHandshakes, e.Refused, "refused")
	p.count(zeromqLost, e.Lost)
	p.count(zeromqReceived, e.Received)
	p.count(zeromqSent, e.Sent)
	p.count(zeromqConfirmed, e.Confirmed)
	p.add(zeromqPending, float64(e.Waiting), "waiting")
	p.add(zeromqPending, float64(e.Owed), "owed")
	p.add(zeromqPending, float64(e.Incoming), "incoming")
	for reason, n := range e.Dropped {
		p.count(zeromqDropped, n, reason)
	}
	p.count(zeromqStalls, e.Stalled)
	p.add(zeromqStopped, truth(e.Stopped))
}
