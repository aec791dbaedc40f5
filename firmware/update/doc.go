// Package update changes a box's firmware and a site's: it takes bundles (coord/release), verifies them while they come, writes them into the slot
// that does not run (firmware/slots), starts the machine again, and keeps the new release when the site is well with it; otherwise the box
// goes back by itself and says why. What a box does for the update of its site is decided in coord/rollout; Runner does it.
//
// Where a box is with it is in update.json of its data directory, written before each step that a restart must know of.
package update
