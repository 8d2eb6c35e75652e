package main

// Links and pipes at rest.
var resting = []mutant{
	{"nobody starts a writer that is away", "cause 8", "socket/pipe.go",
		"		p.parts.Go(p.writeAll)\n", "", "socket", "TestWhoeverCallsAPipeAtRestStartsItsWriter"},
	{"what is said to a writer that leaves is forgotten", "cause 8", "socket/pipe.go",
		"	case <-p.wake:\n	case <-p.soon:\n	case <-p.read:\n", "	case <-p.read:\n", "socket", "TestAWriterLooksForWhatWasSaidToHimWhileHeLeft"},
	{"a writer that leaves forgets what waits for company", "cause 8", "socket/pipe.go",
		"		if !over {\n			over, err = p.write()\n		}\n		if resting", "		if !over && !resting {\n			over, err = p.write()\n		}\n		if resting", "socket", "TestAWriterThatLeavesTakesWhatWaitsForCompanyAlong"},
	{"a receiver at rest renews nothing", "cause 8", "socket/in.go",
		"	e.pipe.ticks = true // for RENEW\n", "", "socket", "TestLeasesAreRenewedEveryTwoSeconds"},
	{"a dial waits for all that are new", "cause 8", "node/dial.go",
		"	case <-patience.C:\n		return func() {}, nil\n", "", "node", "TestNoDialWaitsLongForThoseOfManyDeadAddresses"},
	{"who asks and never answers stays", "bad input", "node/link.go",
		"		err = l.deaf()\n", "", "node", "TestPeerThatAsksAndNeverAnswersIsCut"},
}
