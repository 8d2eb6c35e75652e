package main

// What the bridge to ZeroMQ programs owes the mesh.
var bridging = []mutant{
	{"written counts as read", "cause 2", "node/zmtp/conn.go",
		"		receipts: peer.minor >= 1 && h.end.Profile == Durable,\n", "", "node/zmtp", "TestAMessageIsHandedOverWhenThePingBehindItIsAnswered"},
	{"an answer to another PING counts", "cause 6", "node/zmtp/conn.go",
		"binary.BigEndian.Uint64(context) == c.pings {", "binary.BigEndian.Uint64(context) > 0 {", "node/zmtp", "TestAMessageIsHandedOverWhenThePingBehindItIsAnswered"},
	{"a message whose peer left is acked", "cause 12", "node/zmtp/pipeline.go",
		"		err = nackAll(ms, errPeerLeft)\n", "		err = patterns.AckAll(ms)\n", "node/zmtp", "TestWhatAPeerMayNotHaveReadGoesToAnother"},
	{"what a peer was not sent goes with it", "cause 8", "node/zmtp/pipeline.go",
		"		p.again = append(p.again, ms...)\n", "", "node/zmtp", "TestWhatWasNotSentGoesToAnother"},
	{"a length is believed before it is looked at", "rule 10", "node/zmtp/frame.go",
		"	if length > uint64(max(limit, 0)) {\n", "	if false {\n", "node/zmtp", "TestAMessageIsBoundedInBytesAndParts"},
	{"work is kept from others while no peer is here", "credit", "node/zmtp/pipeline.go",
		"			if connected == 0 {\n", "			if false {\n", "node/zmtp", "TestWithoutAPeerWorkIsForOthers"},
}
