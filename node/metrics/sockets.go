package metrics

import (
	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

var (
	senderAccepted = counter("sender_accepted_messages_total", "Messages that Send has taken responsibility for; of a Pub copies, one for each subscription.", "kind", "name")
	senderCarried  = gauge("sender_carried_messages", "Messages of earlier lives that were found unsettled when the socket opened.", "kind", "name")
	senderOwed     = gauge("sender_owed_messages", "Messages that are not settled: queued, or leased to a receiver.", "kind", "name", "state")
	senderSettled  = counter("sender_settled_messages_total", "Messages by their fate: done, dead, expired, or dropped for a reason.", "kind", "name", "fate", "reason")
	senderHanded   = counter("sender_handed_messages_total", "Messages at level best-effort that were handed to a link; nothing more is known of them.", "kind", "name")
	senderAgain    = counter("sender_redelivered_messages_total", "Deliveries that were not the first of their message.", "kind", "name")
	senderLateDone = counter("sender_late_done_messages_total", "Messages that were handled after another fate had been stated.", "kind", "name")
	senderBytes    = gauge("sender_owed_bytes", "Encoded size of the messages that are not settled, as far as they are in memory.", "kind", "name")
	senderOnDisk   = gauge("sender_on_disk_messages", "Queued messages that wait on disk alone.", "kind", "name")
	senderDelayed  = gauge("sender_delayed_messages", "Queued messages that wait for the end of their Delay, as far as they were looked at.", "kind", "name")
	senderPeers    = gauge("sender_consumers", "Receivers that are known: ready, paused, or away.", "kind", "name", "state")
	senderRoom     = gauge("sender_room_messages", "Messages that the receivers would take now: what is left of their windows.", "kind", "name")

	subscriptionOwed     = gauge("subscription_owed_messages", "Messages that a durable subscription has not settled, as far as they were looked at.", "name", "subscription")
	subscriptionBytes    = gauge("subscription_owed_bytes", "Encoded size of the messages that a durable subscription has not settled.", "name", "subscription")
	subscriptionAttached = gauge("subscription_attached", "Subscribers of a durable subscription that are attached.", "name", "subscription")
	subscriptionExpelled = gauge("subscription_expelled", "1 if a durable subscription has reached its limit and was ended by that.", "name", "subscription")

	receiverDelivered  = counter("receiver_delivered_messages_total", "Messages that were handed to a handler.", "kind", "name")
	receiverBytes      = counter("receiver_delivered_bytes_total", "Bytes of the bodies of messages that were handed to a handler.", "kind", "name")
	receiverAnswered   = counter("receiver_answered_messages_total", "Messages by their answer: done, nacked, released, returned unbegun, or expired before they were begun.", "kind", "name", "answer")
	receiverAgain      = counter("receiver_redelivered_messages_total", "Deliveries with the flag: an earlier one may have been begun.", "kind", "name")
	receiverDuplicates = shakyCounter("receiver_duplicate_messages_total", "Messages that came again while they were held or done here, and were dropped.", "kind", "name")
	receiverGaps       = counter("receiver_gap_messages_total", "Messages that senders have stated will never come.", "kind", "name")
	receiverQueued     = gauge("receiver_queued_messages", "Messages that have come and are not begun.", "kind", "name")
	receiverBegun      = gauge("receiver_begun_messages", "Messages that a handler has and has not answered.", "kind", "name")
	receiverPipes      = gauge("receiver_pipes", "Senders that are attached.", "kind", "name")
	receiverPaused     = gauge("receiver_paused", "Sockets that are paused.", "kind", "name")
)

// sockets reads the open sockets.
func (m *Metrics) sockets(s *sheet) {
	all := m.node.Sockets() // by kind and name
	var names, subscriptions []string
	for _, o := range all {
		names = append(names, nameKey(o))
		if o.Sender == nil {
			continue
		}
		for _, sub := range o.Sender.Subscriptions {
			subscriptions = append(subscriptions, subscriptionKey(o, sub))
		}
	}
	m.names.settle(names)
	m.subscriptions.settle(subscriptions)
	for _, o := range all {
		p := put{sheet: s, source: nameKey(o) + separator + o.Label, kind: o.Kind.String(), name: o.Name}
		if p.fold = !m.names.has(nameKey(o)); p.fold {
			p.name = other
		}
		switch {
		case o.Sender != nil:
			p.sender(o.Sender)
			for _, sub := range o.Sender.Subscriptions {
				m.subscription(s, o, sub)
			}
		case o.Receiver != nil:
			p.receiver(o.Receiver)
		}
	}
}

func nameKey(o node.SocketInfo) string { return o.Kind.String() + separator + o.Name }

func subscriptionKey(o node.SocketInfo, sub patterns.SubscriptionStats) string {
	return o.Name + separator + sub.Name
}

// put adds the figures of one socket.
type put struct {
	sheet      *sheet
	source     string
	fold       bool
	kind, name string
}

func (p put) add(f *figure, v float64, more ...string) {
	from := p.source
	for _, label := range more {
		from += separator + label
	}
	p.sheet.addFrom(from, p.fold, f, v, append([]string{p.kind, p.name}, more...)...)
}

func (p put) count(f *figure, n uint64, more ...string) { p.add(f, float64(n), more...) }

func (p put) sender(st *patterns.SenderStats) {
	l := st.Ledger
	p.count(senderAccepted, l.Accepted)
	p.count(senderCarried, l.Carried)
	p.count(senderOwed, l.Queued, "queued")
	p.count(senderOwed, l.Leased, "leased")
	p.count(senderSettled, l.Done, "done", "")
	p.count(senderSettled, l.Dead, "dead", "")
	p.count(senderSettled, l.Expired, "expired", "")
	for reason, n := range l.Dropped {
		p.count(senderSettled, n, "dropped", reason)
	}
	p.count(senderHanded, l.Handed)
	p.count(senderAgain, st.Redelivered)
	p.count(senderLateDone, st.LateDone)
	p.count(senderBytes, st.Bytes)
	p.count(senderOnDisk, st.OnDisk)
	p.count(senderDelayed, st.Delayed)
	consumers := map[string]float64{"ready": 0, "paused": 0, "away": 0}
	var room uint64
	for _, c := range st.Consumers {
		consumers[stateOf(c)]++
		room += c.Room
	}
	for state, n := range consumers {
		p.add(senderPeers, n, state)
	}
	p.count(senderRoom, room)
}

func stateOf(c socket.ConsumerStats) string {
	switch {
	case !c.Attached:
		return "away"
	case c.Paused:
		return "paused"
	}
	return "ready"
}

func (p put) receiver(st *socket.InboxStats) {
	p.count(receiverDelivered, st.Delivered)
	p.count(receiverBytes, st.Bytes)
	p.count(receiverAnswered, st.Done, "done")
	p.count(receiverAnswered, st.Nacked, "nacked")
	p.count(receiverAnswered, st.Released, "released")
	p.count(receiverAnswered, st.Returned, "returned")
	p.count(receiverAnswered, st.Expired, "expired")
	p.count(receiverAgain, st.Redelivered)
	p.count(receiverDuplicates, st.Duplicates)
	p.count(receiverGaps, st.Gaps)
	p.add(receiverQueued, float64(st.Queued))
	p.add(receiverBegun, float64(st.Begun))
	p.add(receiverPipes, float64(st.Pipes))
	p.add(receiverPaused, truth(st.Paused))
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (m *Metrics) subscription(s *sheet, o node.SocketInfo, sub patterns.SubscriptionStats) {
	name, group := o.Name, sub.Name
	if !m.subscriptions.has(subscriptionKey(o, sub)) {
		name, group = other, other
	}
	s.add(subscriptionOwed, float64(sub.Owed), name, group)
	s.add(subscriptionBytes, float64(sub.Bytes), name, group)
	s.add(subscriptionAttached, float64(sub.Attached), name, group)
	s.add(subscriptionExpelled, truth(sub.Expelled), name, group)
}
