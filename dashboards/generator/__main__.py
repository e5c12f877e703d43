"""Writes the dashboards anew: python3 dashboards/generator"""

import backup
import kafka
import midwatch
import mongodb
import overview
import slo
import vpn

for board in (overview, slo, mongodb, kafka, vpn, backup, midwatch):
    board.BOARD.write()
