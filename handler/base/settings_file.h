/* The settings file that is installed beside the program, SYSCONFDIR/ticketd/ticketd.env. The program in build/ has
 * none: what runs from there, tests too, never reads /etc. */
#ifndef TICKETD_SETTINGS_FILE_H
#define TICKETD_SETTINGS_FILE_H

#include "base/outcome.h"

/* Its path; "": this program has none. */
extern const char settings_file[];

enum settings_found { SETTINGS_NONE, SETTINGS_READ, SETTINGS_BAD };

/* Reads it into the environment as systemd does (EnvironmentFile=, systemd.exec(5)). What is in the environment already
 * wins. SETTINGS_NONE: there is no such file; or this user may not read it, and the environment has settings.
 * SETTINGS_BAD: logged. Call before threads start. */
enum settings_found settings_file_read(void) MUST_USE;

#endif
