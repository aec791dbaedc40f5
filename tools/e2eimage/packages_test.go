package main

import (
	"maps"
	"testing"
)

func TestArchivesAreWhereAptLooksForThem(t *testing.T) {
	got := archivesOf(`'http://deb.debian.org/debian/dists/bookworm/InRelease' deb.debian.org_debian_dists_bookworm_InRelease 0 
'http://other.example/debian/dists/bookworm-updates/InRelease' x 0 
'https://u:p@deb.debian.org/deep/debian-security/dists/bookworm-security/InRelease' x 0 
'file:/srv/other/dists/x/InRelease' x 0 
E: something else
`)
	want := map[string]string{"debian": "http://deb.debian.org/debian", "debian-security": "https://u:p@deb.debian.org/deep/debian-security"}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
