-- SPDX-License-Identifier: MIT
-- visibility/mysql, version 1.

-- Short numbers for namespaces (ns 0, type 0) and for the attributes of a namespace by their type.
CREATE TABLE IF NOT EXISTS tenon_vis_name (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  ns INT UNSIGNED NOT NULL,
  type TINYINT UNSIGNED NOT NULL,
  name VARBINARY(1000) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY by_name (ns, type, name)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- One row a run.  run: 16 bytes of a UUID, or 16 zeros and the text; close: the greatest number for an open
-- run, start: the least for none; part: 1 with a division; rwf, rrun empty: the run's own; sa: the run's own
-- attributes, each as number (4 bytes), type (1), length (4), value.
CREATE TABLE IF NOT EXISTS tenon_vis_run (
  ns INT UNSIGNED NOT NULL,
  run VARBINARY(1016) NOT NULL,
  ver BIGINT UNSIGNED NOT NULL,
  part TINYINT UNSIGNED NOT NULL,
  status VARBINARY(100),
  type VARBINARY(1000),
  close BIGINT NOT NULL,
  start BIGINT NOT NULL,
  wf VARBINARY(2000) NOT NULL,
  tq VARBINARY(1000),
  exec BIGINT,
  dur BIGINT,
  len BIGINT,
  size BIGINT,
  trans BIGINT,
  pwf VARBINARY(2000),
  prun VARBINARY(1016),
  rwf VARBINARY(2000),
  rrun VARBINARY(1016),
  division VARBINARY(1000),
  sa LONGBLOB,
  memo LONGBLOB,
  PRIMARY KEY (ns, run),
  KEY by_close (ns, part, close, start),
  KEY by_status (ns, part, status, close, start),
  KEY by_type (ns, part, type, close, start),
  KEY by_wf (ns, wf)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- What runs' own attributes are found by: the value so that its bytes have its order; of a list each keyword
-- with a byte in front, of a text each word likewise, and of both an empty one.
CREATE TABLE IF NOT EXISTS tenon_vis_attr (
  run VARBINARY(1016) NOT NULL,
  attr INT UNSIGNED NOT NULL,
  val VARBINARY(2000) NOT NULL,
  PRIMARY KEY (run, attr, val),
  KEY by_val (attr, val)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
