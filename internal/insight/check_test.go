package insight

import (
	"errors"
	"testing"
	"time"
)

func TestChecksJudgeWhatWasMeasured(t *testing.T) {
	now := noon
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		check   Check
		verdict Verdict
		code    string
	}{
		"buffers as asked":     {CheckBuffers(7<<20, 7<<20, 8<<20), Fine, ""},
		"buffers of Linux":     {CheckBuffers(7<<20, 212992, 7<<20), Warn, "buffers"},
		"no buffers":           {CheckBuffers(7<<20, 4096, 7<<20), Fail, "buffers"},
		"all offloads":         {CheckOffload(Offload{}), Fine, ""},
		"no GRO":               {CheckOffload(Offload{GRO: errors.New("no")}), Warn, "offload"},
		"an answer":            {CheckReach(Reach{Answer: true}), Fine, ""},
		"nobody there":         {CheckReach(Reach{Closed: true}), Fail, "down"},
		"silence":              {CheckReach(Reach{}), Fail, "udp-blocked"},
		"no route":             {CheckReach(Reach{Err: errors.New("no route")}), Fail, "unreachable"},
		"an Ethernet":          {CheckMTU(Reach{Answer: true, Largest: 1480}), Fine, ""},
		"a tunnel":             {CheckMTU(Reach{Answer: true, Largest: 1280}), Warn, "mtu"},
		"too narrow":           {CheckMTU(Reach{Answer: true, Largest: 1000}), Fail, "mtu"},
		"not measured":         {CheckMTU(Reach{}), Skip, ""},
		"multicast":            {CheckMulticast("eth0", nil), Fine, ""},
		"no multicast":         {CheckMulticast("eth0", errors.New("no")), Warn, CodeMulticast},
		"a good clock":         {CheckClock(Clock{Now: now, Peers: []Skew{{"b", time.Second}}}), Fine, ""},
		"a clock of 1970":      {CheckClock(Clock{Now: time.Unix(0, 0)}), Fail, CodeClock},
		"a minute off":         {CheckClock(Clock{Now: now, Peers: []Skew{{"c", time.Second}, {"b", -time.Minute}}}), Warn, CodeClock},
		"an hour off":          {CheckClock(Clock{Now: now, Peers: []Skew{{"b", time.Hour}, {"c", 0}}}), Fail, CodeClock},
		"set back":             {CheckClock(Clock{Now: now, Newest: now.Add(day)}), Fail, CodeClock},
		"nothing keeps it":     {CheckClock(Clock{Now: now, Unsynced: true}), Warn, CodeClock},
		"a good certificate":   {CheckCertificate("m", now.Add(20*day), now, nil), Fine, ""},
		"its last day":         {CheckCertificate("m", now.Add(time.Hour), now, nil), Warn, "expired"},
		"run out":              {CheckCertificate("m", now, now, nil), Fail, "expired"},
		"none":                 {CheckCertificate("m", now, now, errors.New("no")), Fail, "certificate"},
		"a good disk":          {CheckDisk(Space{Free: 10 << 30, Total: 20 << 30, Sync: time.Millisecond}), Fine, ""},
		"a slow disk":          {CheckDisk(Space{Free: 10 << 30, Total: 20 << 30, Sync: time.Second}), Warn, "slow-sync"},
		"nearly full":          {CheckDisk(Space{Free: 100 << 20, Total: 20 << 30}), Warn, CodeDiskFull},
		"full":                 {CheckDisk(Space{Free: 1 << 20, Total: 20 << 30}), Fail, CodeDiskFull},
		"full when written to": {CheckDisk(Space{Err: errors.New("no space"), Full: true}), Fail, CodeDiskFull},
		"not writable":         {CheckDisk(Space{Err: errors.New("denied")}), Fail, CodeDisk},
		"a good spool":         {CheckSpool(Disk{Used: 1 << 20, Quota: 1 << 30}), Fine, ""},
		"a spool near quota":   {CheckSpool(Disk{Used: 95, Quota: 100}), Warn, CodeDiskFull},
		"a full spool":         {CheckSpool(Disk{Used: 100, Quota: 100}), Fail, CodeDiskFull},
		"a failed spool":       {CheckSpool(Disk{Failed: "EIO"}), Fail, CodeDisk},
		"a damaged spool":      {CheckSpool(Disk{Damage: "tail lost"}), Fail, "loss"},
		"peers":                {CheckPeers(Sight{Peers: []Peer{{}}})[0], Fine, ""},
		"no peers":             {CheckPeers(Sight{})[0], Warn, CodeNobody},
		"refused there":        {CheckPeers(Sight{Candidates: []Candidate{{Addr: "x", Code: "mesh"}}})[0], Fail, "mesh"},
		"refused here":         {CheckPeers(Sight{Events: []Event{{State: "refused", Code: "policy"}}, Peers: []Peer{{}}})[0], Fail, "policy"},
	} {
		if c.check.Verdict != c.verdict || c.check.Code != c.code || c.check.Text == "" || (c.check.Cure != "") != (c.code != "") {
			t.Errorf("%s: got %+v, want %s (%s), and a cure if it is not well", name, c.check, c.verdict, c.code)
		}
	}
}
