package main

// What nodes tell each other of themselves, and what is made of it.
var telling = []mutant{
	{"a node of another namespace is told what a node sees", "insight", "node/ask.go",
		"	case who.foreign():\n", "	case false && who.foreign():\n", "node", "TestWhoMayNotAskIsToldSo"},
	{"a private node tells what it sees", "insight", "node/ask.go",
		"	case n.cfg.Private:\n", "	case false && n.cfg.Private:\n", "node", "TestWhoMayNotAskIsToldSo"},
	{"questions have no bound", "insight, bad input", "node/node.go",
		"make(chan struct{}, maxAnswering)", "make(chan struct{}, 8*maxAnswering)", "node", "TestRogueQuestionsAreBoundedAndRefused"},
	{"a question whose asker has gone keeps its place", "insight, bad input", "node/ask.go",
		"	_, _ = c.Read(b[:]) // whatever comes is not expected\n	cancel()\n", "	_, _ = c.Read(b[:])\n	_ = cancel\n", "node",
		"TestAPeerIsFollowed"},
	{"of other sockets everything is told", "insight", "internal/insight/sight.go",
		"			o = Socket{Kind: o.Kind, Name: o.Name, Ledger: &Ledger{}}\n", "", "internal/insight", "TestOfOtherSocketsOnlyTheirNamesAreTold"},
	{"a name's decisions have no bound", "insight", "internal/insight/ring.go",
		"	case len(ring) >= PerName:\n", "	case len(ring) >= 2*PerName:\n", "internal/insight", "TestRingsAreBoundedAndTheNewestStay"},
	{"what repeats is kept again", "insight", "internal/insight/ring.go",
		"if n := len(ring); n > 0 && ring[n-1].repeats(d) {", "if n := len(ring); n > 0 && d.Seq > 0 && false {", "internal/insight", "TestWhatRepeatsIsCountedAsOne"},
	{"who has finished something counts as stuck", "insight", "internal/insight/still.go",
		"if !known || w.Over != old.work.Over || w.Owed == 0 || old.work.Owed == 0 {", "if !known || w.Owed == 0 || old.work.Owed == 0 {", "internal/insight",
		"TestASocketIsStillWhileItHasWorkAndFinishesNone"},
	{"any packet answers a probe", "insight, bad input", "internal/probe/udp.go",
		"[probeID]byte(b[6:]) == [probeID]byte(probe[7+probeID:]) && ", "", "internal/probe", "TestOnlyTheAnswerToOurOwnProbeCounts"},
	{"a TOLD has no bound", "insight, bad input", "internal/wire/ask.go",
		"	case len(p.b) > MaxTold:\n", "	case len(p.b) > 2*MaxTold:\n", "internal/wire", "TestEveryFieldIsHeldToItsLimit"},
	{"a handler's error is not kept", "insight", "internal/ledger/consumer.go",
		"OnNack(Nacked{Seq: e.seq, By: c.Who, Text: n.Text})", "OnNack(Nacked{Seq: e.seq, By: c.Who})", "internal/ledger", "TestALookTellsWhatIsKnownOfAMessage"},
}
