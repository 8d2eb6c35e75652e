package spool

import (
	"os"
	"runtime"
	"testing"
)

func TestEveryTransactionIsSynced(t *testing.T) {
	s := mustOpen(t, t.TempDir()+"/s")
	if !s.db.Opts().SyncWrites {
		t.Error("Badger answers before what it was given is on disk")
	}
}

// unsyncable is a file that takes each write, and cannot be synced.
func unsyncable(t *testing.T) *os.File {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the null device can be synced here, as far as is known")
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	return null
}

func TestALogEntryIsSynced(t *testing.T) {
	f := walFile{file: unsyncable(t), named: true, size: 1 << 10, most: 1 << 10}
	_, err := f.put(1, sampleOps)
	must(t, err)
	if err := f.sync(); err == nil {
		t.Error("an entry was written without a sync")
	}
	must(t, f.close())
}

func TestAMarkEntryIsSynced(t *testing.T) {
	f := markFile{file: unsyncable(t), size: 1 << 10}
	f.queues = map[uint64]markedQueue{}
	if err := f.write(entry(1, "jobs")); err == nil {
		t.Error("an entry was written without a sync")
	}
	must(t, f.close())
}
