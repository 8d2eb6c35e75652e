package main

// What the bridge to ZeroMQ programs owes the mesh.
var bridging = []mutant{
	{"written counts as read", "cause 2", "node/zmtp/conn.go",
		"		receipts: peer.minor >= 1 && h.end.Profile == Durable,\n", "", "node/zmtp", "TestAMessageIsHandedOverWhenThePingBehindItIsAnswered"},
	{"an answer to another PING counts", "cause 6", "node/zmtp/conn.go",
		"binary.BigEndian.Uint64(context) == c.pings {", "binary.BigEndian.Uint64(context) > 0 {", "node/zmtp", "TestAMessageIsHandedOverWhenThePingBehindItIsAnswered"},
	{"a message whose peer left is acked", "cause 12", "node/zmtp/pipeline.go",
		"		err = each(ms, func(m *socket.Message) error { return m.Nack(errPeerLeft) })\n", "		err = patterns.AckAll(ms)\n", "node/zmtp", "TestWhatAPeerMayNotHaveReadGoesToAnother"},
	{"what a peer was not sent goes with it", "cause 8", "node/zmtp/pipeline.go",
		"		p.again = append(p.again, ms...)\n", "", "node/zmtp", "TestWhatWasNotSentGoesToAnother"},
	{"a length is believed before it is looked at", "rule 10", "node/zmtp/frame.go",
		"	if length > uint64(max(limit, 0)) {\n", "	if false {\n", "node/zmtp", "TestAMessageIsBoundedInBytesAndParts"},
	{"a request at a peer that left is called executed", "once, cause 9", "node/zmtp/reqrep.go",
		"fmt.Errorf(\"zmtp: the ZeroMQ peer left: %w\", patterns.ErrIndeterminate)", "fmt.Errorf(\"zmtp: the ZeroMQ peer left: %v\", patterns.ErrIndeterminate)", "node/zmtp", "TestWhetherARequestWasExecutedIsNotKnownWhenItsPeerLeaves"},
	{"a request that was discarded is called executed", "once, invariant 11", "node/zmtp/reqrep.go",
		"patterns.NotExecuted(errors.New(\"zmtp: the ZeroMQ peer left, and the request was discarded\"))", "errors.New(\"zmtp: the ZeroMQ peer left, and the request was discarded\")", "node/zmtp", "TestWhatAClassicPeerWasNotSentWasNotExecuted"},
	{"a request that no peer was asked is kept from others", "credit", "node/zmtp/reqrep.go",
		"h.assignTo(ctx, o, h.end.Profile == Durable, &q.lane)", "h.assignTo(ctx, o, false, &q.lane)", "node/zmtp", "TestRequestsThatNoPeerWasAskedAreForOthers"},
	{"what no peer was sent uses up a delivery", "attempts", "node/zmtp/pipeline.go",
		"return each(ms[n:], (*socket.Message).Release)\n", "return each(ms[n:], func(m *socket.Message) error { return m.Nack(errNoPeer) })\n", "node/zmtp", "TestGivingBackWithoutAPeerUsesNothingUp"},
	{"a subscription is forgotten with the process", "cause 5", "node/zmtp/told.go",
		"		if err := tx.Put(t.slot(s.slot), value); err != nil || m == nil {\n", "		if err := ctx.Err(); err != nil || m == nil {\n", "node/zmtp", "TestAnXSubRemembersWhatItWasToldWhenItStartsAgain"},
	{"a subscription of a life that is over stays", "invariant 12", "node/zmtp/pubsub.go",
		"		if m.Headers[headerBegins] != \"\" {\n", "		if false {\n", "node/zmtp", "TestWhatAnEarlierLifeOfAnXPubToldIsOver"},
	{"work is kept from others while no peer is here", "credit", "node/zmtp/pipeline.go",
		"			if connected == 0 {\n", "			if false {\n", "node/zmtp", "TestWithoutAPeerWorkIsForOthers"},
}
